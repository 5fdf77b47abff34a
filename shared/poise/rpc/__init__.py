"""Calls between tiers: correlated replies, streams, cancellation and deadlines."""
