"""The inference tier: has a model write, by any OpenAI-compatible HTTP server."""
