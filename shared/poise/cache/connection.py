"""A connection to Redis or Valkey that may be absent: while it is, reads find nothing and writes are let go."""

import asyncio
import hashlib
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, Self, TypeVar

from poise.errors import SetupError
from poise.telemetry import count, observe, table

if TYPE_CHECKING:
    from redis.asyncio import Redis

log = logging.getLogger(__name__)

T = TypeVar("T")

State = Literal["up", "full", "absent"]

ANSWERS_WITHIN: Final = 0.5
"""Seconds after which a command is given up: a cache that is slower than this is no help."""
REST: Final = 2.0
"""Seconds without a try after a failure: short enough that a lease outlives one."""
CONNECTIONS: Final = 32
"""Commands under way at once; further ones wait for a free connection."""


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script that the server runs as one step: nobody sees or changes the key in the middle of it."""

    text: str
    grows: bool = False
    """Whether it has put something in when it returns nothing."""
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sha", hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest())


class Cache:
    """Redis behind a circuit breaker: `async with Cache(url) as cache`; without a url it is always absent.

    Raises:
        SetupError: The url is not one that Redis has.
    """

    def __init__(self, url: str | None) -> None:
        self._redis = None if url is None else _connection(url)
        self._places = asyncio.Semaphore(CONNECTIONS)
        self._rests_until = 0.0
        self._state: State = "up"
        self._unobserve: Callable[[], None] = lambda: None

    async def __aenter__(self) -> Self:
        """Nothing is connected yet: the first command does that."""
        if self._redis is not None:
            self._unobserve = observe(table.CACHE_UP, lambda: float(self._state != "absent"))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Disconnect."""
        self._unobserve()
        if self._redis is not None:
            await self._redis.aclose()

    @property
    def configured(self) -> bool:
        """Whether there is one to ask at all, reachable or not."""
        return self._redis is not None

    async def get(self, key: str) -> bytes | None:
        """The value, or None if there is none or the cache is absent."""
        if self._redis is None:
            return None
        redis = self._redis
        found = await self._surviving(lambda: redis.get(key), lambda _: False)
        return found.encode() if isinstance(found, str) else found

    async def put(self, key: str, value: bytes, ttl: float) -> None:
        """Keep a value for `ttl` seconds."""
        if (redis := self._redis) is not None:
            await self._surviving(lambda: redis.set(key, value, px=max(1, round(ttl * 1_000))), lambda _: True)

    async def run(self, script: Script, key: str, *arguments: bytes | int) -> bytes | None:
        """What the script returns for a key, or None if it returns nothing or the cache is absent.

        A command whose answer was lost is sent once more, so a script must bear being run twice.
        """
        if self._redis is None:
            return None
        found = await self.evaluate(script, [key], *arguments)
        return found if isinstance(found, bytes) else None

    async def evaluate(self, script: Script, keys: Sequence[str], *arguments: bytes | int) -> object:
        """What the script returns for several keys, as Redis has it (bytes, int, or a list of them); see `run`.

        On a cluster the keys must be of one slot: give them the same `{tag}`.
        """
        if self._redis is None:
            return None
        return await self._surviving(
            lambda: self._evaluated(script, keys, *arguments), lambda found: script.grows and not found
        )

    async def _evaluated(self, script: Script, keys: Sequence[str], *arguments: bytes | int) -> object:
        from redis.exceptions import NoScriptError  # noqa: PLC0415 - loaded by now

        redis: Any = self._redis
        try:
            return await redis.evalsha(script.sha, len(keys), *keys, *arguments)
        except NoScriptError:  # the server was restarted, or never saw it
            return await redis.eval(script.text, len(keys), *keys, *arguments)

    async def _surviving(self, command: Callable[[], Awaitable[T]], grew: Callable[[T], bool]) -> T | None:
        # Many at once wait here, not in the pool, where a busy cache would be taken for an absent one; when it is
        # found absent, those that wait are told at once.
        async with self._places:
            return await self._tried(command, grew)

    async def _tried(self, command: Callable[[], Awaitable[T]], grew: Callable[[T], bool]) -> T | None:
        from redis.exceptions import OutOfMemoryError, RedisError  # noqa: PLC0415 - loaded by now

        if time.monotonic() < self._rests_until:
            return None
        try:
            found = await command()
        except OutOfMemoryError as error:  # what it has can still be read: no reason to leave it alone
            self._failed(error)
            self._say("full", f"the cache is full, nothing is kept until it has room: {error}")
            return None
        except (RedisError, OSError) as error:
            self._failed(error)
            self._rests_until = time.monotonic() + REST
            self._say("absent", f"the cache is absent, going on without it: {error}")
            return None
        if self._state == "absent" or (self._state == "full" and grew(found)):
            log.info("the cache %s", "is back" if self._state == "absent" else "has room again")
            self._state = "up"
        return found

    def _failed(self, error: Exception) -> None:
        count(table.CACHE_ERRORS, 1, {table.ERROR_TYPE: type(error).__name__})

    def _say(self, state: State, told: str) -> None:
        """Say it once, however often it is found."""
        if self._state != state:
            log.warning("%s", told)
        self._state = state


def _connection(url: str) -> "Redis":
    from redis.asyncio import ConnectionPool, Redis  # noqa: PLC0415 - 0.1 s a client without a cache saves
    from redis.asyncio.retry import Retry  # noqa: PLC0415
    from redis.backoff import NoBackoff  # noqa: PLC0415

    try:
        pool = ConnectionPool.from_url(
            url,
            max_connections=CONNECTIONS,
            socket_timeout=ANSWERS_WITHIN,
            socket_connect_timeout=ANSWERS_WITHIN,
            retry=Retry(NoBackoff(), 1),  # a kept connection may have died unnoticed
        )
        return Redis.from_pool(pool)
    except ValueError as error:
        raise SetupError(f"POISE_REDIS_URL: {error}; give redis://host:port/db") from error
