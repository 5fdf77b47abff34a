"""Policies: how the variants of an answer are weighted, how one is drawn, and what moves the weights."""
