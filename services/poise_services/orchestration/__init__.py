"""The orchestration tier: runs workflows, one for each request."""
