"""The cache: Redis or Valkey, every use of which survives its absence."""

from poise.cache.connection import Cache
from poise.cache.journal import Journal

__all__ = ["Cache", "Journal"]
