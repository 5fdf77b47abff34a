"""Stores the last good response of an integration in Redis, to serve it stale if the API fails (`stale-if-error`)."""

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
"""Seconds: a stale response is recognized by an age above 0."""


class _StoredResponse(BaseModel):
    at: float
    text: str


@dataclass(frozen=True, slots=True)
class CacheKey:
    """Identifies a request: its tenant, API and parameters."""

    tenant: str
    name: str
    api: Api
    parameters: Mapping[str, str]

    @property
    def redis_key(self) -> str:
        """The Redis key; it changes with the API's URL, body or pointer."""
        api = self.api
        request = [api.method, api.url, api.body, api.pointer, sorted(self.parameters.items())]
        digest = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()
        return f"poise:fetched:{quote(self.tenant, safe='')}:{self.name}:{digest}"


class StaleIfErrorCache:
    """The last good responses; without Redis, there are none."""

    def __init__(self, redis: RedisClient) -> None:
        self._redis = redis

    async def store(self, key: CacheKey, text: str) -> None:
        """Store a response for the API's `stale_if_error` seconds."""
        if key.api.stale_if_error:
            response = _StoredResponse(at=time.time(), text=text).model_dump_json()
            await self._redis.put(key.redis_key, response.encode(), key.api.stale_if_error)

    async def load(self, key: CacheKey) -> tuple[str, float] | None:
        """Return the last good response and its age in seconds; None if there is none."""
        stored = await self._redis.get(key.redis_key) if key.api.stale_if_error else None
        if stored is None:
            return None
        try:
            response = _StoredResponse.model_validate_json(stored)
        except ValidationError as error:
            log.warning("the stored response of integration %s cannot be read: %s", key.name, error)
            return None
        return response.text, max(_MIN_AGE, time.time() - response.at)
