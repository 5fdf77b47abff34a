"""Configuration files: reading and writing TOML."""
