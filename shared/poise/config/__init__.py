"""Configuration files in TOML."""
