"""The run log: the records, scores and spans of finished runs."""
