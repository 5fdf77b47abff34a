"""The integration tier: calls third-party APIs."""
