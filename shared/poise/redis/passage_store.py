"""PassageStore: recently retrieved passages, used while retrieval is unavailable."""

import hashlib
from typing import Final
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from poise.contracts.retrieve import Passages
from poise.redis.client import RedisClient
from poise.text.unicode_forms import nfkc

FORMAT_VERSION: Final = "1"
"""Part of the key, so that a worker with another format does not read these entries."""


class CachedPassages(BaseModel):
    """The passages that retrieval returned, and when."""

    model_config = ConfigDict(frozen=True, validate_by_name=True, serialize_by_alias=True)

    retrieved_at: float = Field(alias="at")  # the name in Redis
    """Unix seconds."""
    reply: Passages = Field(alias="found")  # the name in Redis


class PassageStore:
    """Passages by tenant, query and limit; without Redis nothing is stored.

    Args:
        redis: Where they are stored.
        ttl: Seconds for which they are stored; 0 = nothing is stored.
    """

    def __init__(self, redis: RedisClient, ttl: float) -> None:
        self._redis = redis
        self._ttl = ttl

    @property
    def configured(self) -> bool:
        """Whether passages are stored."""
        return self._redis.configured and self._ttl > 0

    async def put(self, tenant: str, query: str, limit: int, passages: CachedPassages) -> None:
        """Store the passages of a query; they replace earlier ones."""
        if self.configured:
            await self._redis.put(passage_key(tenant, query, limit), passages.model_dump_json().encode(), self._ttl)

    async def get(self, tenant: str, query: str, limit: int) -> CachedPassages | None:
        """Return the last stored passages of a query; None = there are none, or they have expired."""
        value = await self._redis.get(passage_key(tenant, query, limit)) if self.configured else None
        if value is None:
            return None
        try:
            return CachedPassages.model_validate_json(value)
        except ValidationError:  # written by another version: ignored, and overwritten by the next `put`
            return None


def passage_key(tenant: str, query: str, limit: int) -> str:
    """Return the Redis key of a query's passages."""
    digest = hashlib.sha256(normalize_query(query).encode(errors="surrogatepass")).hexdigest()
    return f"poise:passages:{FORMAT_VERSION}:{quote(tenant, safe='')}:{limit}:{digest}"


def normalize_query(query: str) -> str:
    """Normalize case, white space and letter forms (NFKC) of a query, which do not affect a search."""
    return " ".join(nfkc(query).casefold().split())
