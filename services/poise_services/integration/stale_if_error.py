"""Last good: what an API said when it last said something, kept in Redis to stand in for it when it says nothing."""

import hashlib
import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from pydantic import BaseModel, ValidationError

from poise.redis.client import RedisClient
from poise_services.integration.settings import Api

log = logging.getLogger(__name__)

_MIN_AGE: Final = 0.001
"""Seconds: what stands in is told apart from what is fresh by its age."""


class _StoredResponse(BaseModel):
    at: float
    text: str


@dataclass(frozen=True, slots=True)
class CacheKey:
    """What was asked of which API for whom: two with the same have the same answer."""

    tenant: str
    name: str
    api: Api
    parameters: Mapping[str, str]

    @property
    def redis_key(self) -> str:
        """Its place in Redis. A change of the address, the body or the pointer makes it another one."""
        api = self.api
        asked = [api.method, api.url, api.body, api.pointer, sorted(self.parameters.items())]
        digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
        return f"poise:fetched:{quote(self.tenant, safe='')}:{self.name}:{digest}"


class StaleIfErrorCache:
    """The last good answers. Without a cache there are none."""

    def __init__(self, redis: RedisClient) -> None:
        self._redis = redis

    async def store(self, key: CacheKey, text: str) -> None:
        """Keep an answer for as long as its API's settings say."""
        if key.api.stale_if_error:
            kept = _StoredResponse(at=time.time(), text=text).model_dump_json()
            await self._redis.put(key.redis_key, kept.encode(), key.api.stale_if_error)

    async def load(self, key: CacheKey) -> tuple[str, float] | None:
        """The last good answer and its age in seconds, if one is kept."""
        found = await self._redis.get(key.redis_key) if key.api.stale_if_error else None
        if found is None:
            return None
        try:
            kept = _StoredResponse.model_validate_json(found)
        except ValidationError as error:
            log.warning("what is kept of integration %s cannot be read: %s", key.name, error)
            return None
        return kept.text, max(_MIN_AGE, time.time() - kept.at)
