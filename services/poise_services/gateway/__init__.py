"""The gateway tier: lets HTTP clients in."""
