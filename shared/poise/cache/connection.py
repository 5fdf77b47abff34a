"""A connection to Redis or Valkey that may be absent: while it is, reads find nothing and writes are let go."""

import logging
import time
from collections.abc import Awaitable
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self, TypeVar

from poise.errors import SetupError

if TYPE_CHECKING:
    from redis.asyncio import Redis

log = logging.getLogger(__name__)

T = TypeVar("T")

ANSWERS_WITHIN: Final = 0.5
"""Seconds after which a command is given up: a cache that is slower than this is no help."""
REST: Final = 5.0
"""Seconds without a try after a failure."""


class Cache:
    """Redis behind a circuit breaker: `async with Cache(url) as cache`; without a url it is always absent.

    Raises:
        SetupError: The url is not one that Redis has.
    """

    def __init__(self, url: str | None) -> None:
        self._redis = None if url is None else _connection(url)
        self._rests_until = 0.0
        self._absent = False

    async def __aenter__(self) -> Self:
        """Nothing is connected yet: the first command does that."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Disconnect."""
        if self._redis is not None:
            await self._redis.aclose()

    async def get(self, key: str) -> bytes | None:
        """The value, or None if there is none or the cache is absent."""
        if self._redis is None:
            return None
        found = await self._surviving(self._redis.get(key))
        return found.encode() if isinstance(found, str) else found

    async def put(self, key: str, value: bytes, ttl: float) -> None:
        """Keep a value for `ttl` seconds."""
        if self._redis is not None:
            await self._surviving(self._redis.set(key, value, px=max(1, round(ttl * 1_000))))

    async def _surviving(self, command: Awaitable[T]) -> T | None:
        from redis.exceptions import RedisError  # noqa: PLC0415 - loaded by now

        if time.monotonic() < self._rests_until:
            if hasattr(command, "close"):
                command.close()
            return None
        try:
            found = await command
        except (RedisError, OSError) as error:
            self._rests_until = time.monotonic() + REST
            if not self._absent:
                log.warning("the cache is absent, going on without it: %s", error)
            self._absent = True
            return None
        if self._absent:
            log.info("the cache is back")
        self._absent = False
        return found


def _connection(url: str) -> "Redis":
    from redis.asyncio import Redis  # noqa: PLC0415 - 0.1 s that a client without a cache does not pay

    try:
        return Redis.from_url(url, socket_timeout=ANSWERS_WITHIN, socket_connect_timeout=ANSWERS_WITHIN)
    except ValueError as error:
        raise SetupError(f"POISE_REDIS_URL: {error}; give redis://host:port/db") from error
