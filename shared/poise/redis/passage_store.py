"""Passages that were found, kept for a while, to stand in while retrieval is down."""

import hashlib
from typing import Final
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, ValidationError

from poise.contracts.retrieve import Passages
from poise.redis.client import RedisClient
from poise.text.unicode_forms import nfkc

FORMAT_VERSION: Final = "1"
"""Part of the key: a worker that keeps them in another form does not meet these."""


class CachedPassages(BaseModel):
    """What retrieval found, and when."""

    model_config = ConfigDict(frozen=True)

    at: float
    """Unix seconds."""
    found: Passages


class PassageStore:
    """Passages by tenant, query and limit; without a cache it keeps none.

    Args:
        cache: Where they are kept.
        keep: Seconds for which they are; 0 = not at all.
    """

    def __init__(self, cache: RedisClient, keep: float) -> None:
        self._cache = cache
        self._keep = keep

    @property
    def configured(self) -> bool:
        """Whether anything is kept at all."""
        return self._cache.configured and self._keep > 0

    async def put(self, tenant: str, query: str, limit: int, kept: CachedPassages) -> None:
        """Keep what was found, in place of what was found before."""
        if self.configured:
            await self._cache.put(passage_key(tenant, query, limit), kept.model_dump_json().encode(), self._keep)

    async def get(self, tenant: str, query: str, limit: int) -> CachedPassages | None:
        """What was found for this query last; None = nothing, or nothing any more."""
        value = await self._cache.get(passage_key(tenant, query, limit)) if self.configured else None
        if value is None:
            return None
        try:
            return CachedPassages.model_validate_json(value)
        except ValidationError:  # another version wrote it: as good as gone, and the next one takes its place
            return None


def passage_key(tenant: str, query: str, limit: int) -> str:
    """Where they are kept."""
    digest = hashlib.sha256(normalise_query(query).encode(errors="surrogatepass")).hexdigest()
    return f"poise:passages:{FORMAT_VERSION}:{quote(tenant, safe='')}:{limit}:{digest}"


def normalise_query(query: str) -> str:
    """A query without what makes no difference to a search: case, white space, and forms of one letter (NFKC)."""
    return " ".join(nfkc(query).casefold().split())
