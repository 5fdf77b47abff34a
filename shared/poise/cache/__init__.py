"""The cache: Redis or Valkey, every use of which survives its absence."""

from poise.cache.connection import Cache
from poise.cache.journal import Journal, Lease, Standing, Stored

__all__ = ["Cache", "Journal", "Lease", "Standing", "Stored"]
