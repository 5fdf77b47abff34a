"""The cache: Redis or Valkey, every use of which survives its absence."""

from poise.cache.answers import Answers, AnswersAdmin, Counts, Ground, Kept
from poise.cache.connection import Cache
from poise.cache.history import Entry, History
from poise.cache.journal import Journal, Lease, Standing, Stored

__all__ = [
    "Answers",
    "AnswersAdmin",
    "Cache",
    "Counts",
    "Entry",
    "Ground",
    "History",
    "Journal",
    "Kept",
    "Lease",
    "Standing",
    "Stored",
]
