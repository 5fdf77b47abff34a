"""Workflows: runs, their steps, and replay from the journal."""
