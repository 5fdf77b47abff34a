"""The inference tier: calls models on OpenAI-compatible HTTP servers."""
