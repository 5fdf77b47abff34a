"""Resilience: what keeps one caller from using up what all share."""
