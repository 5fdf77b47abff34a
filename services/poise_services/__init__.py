"""The tiers: one package each, run as `python -m services.<tier>`."""
