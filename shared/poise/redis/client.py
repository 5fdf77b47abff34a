"""A connection to Redis or Valkey that may be absent: while it is, reads find nothing and writes are let go."""

import asyncio
import functools
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, Self, TypeVar

from poise.errors import SetupError
from poise.liveness import CHECK_INTERVAL, Component, Liveness
from poise.redis.batch_writer import BatchWriter
from poise.redis.latency_probe import LatencyProbe, LatencySample
from poise.redis.loop_aware_timer import LoopAwareTimer
from poise.redis.script import Script, ScriptCall
from poise.resilience.breaker import Breaker, BreakerLimits
from poise.telemetry import count, observe, semconv
from poise.text.error_text import error_message

if TYPE_CHECKING:
    from redis.asyncio import Redis

log = logging.getLogger(__name__)

T = TypeVar("T")

ConnectionState = Literal["up", "full", "absent"]

COMMAND_TIMEOUT: Final = 0.5
"""Seconds after which a command is given up, and the cache left alone: it is absent."""
SLOW_COMMAND: Final = COMMAND_TIMEOUT / 5
"""Seconds from which on a command is slow. When half of those timed are, the cache is left alone likewise."""
OPEN_FOR: Final = 2.0
"""Seconds for which it is left alone before it is tried, and between two tries: a lease outlives that."""
MAX_CONNECTIONS: Final = 32
"""Commands under way at once; further ones wait for a free connection."""
POOL_TIMEOUT: Final = 1.0
"""Seconds that a command waits for one; when there is none, the cache cannot keep up, and is left alone."""

BREAKER_WINDOW: Final = 8
"""Of so many timed commands half must be slow: a run waits for so many slow ones, and one more, at most."""

_PROBE_KEY: Final = "poise:tried"
"""The key that is written to see whether the cache is back: one that can only be read is none."""


class RedisClient:
    """Redis behind a circuit breaker: `async with Cache(url) as cache`; without a url it is always absent.

    It is left alone at once when a command fails or is not answered, and when its answers are slow for a while. Then no
    command waits for it; it is tried behind them until it answers again, and soon.

    Args:
        url: Where it is.
        command_timeout: Seconds after which a command is given up; one that takes a fifth of them is slow.
        liveness: Of which the trying of one that was left alone is a part: a cache that is away ends no process and
            leaves it ready, but nothing may keep it from being tried.

    Raises:
        SetupError: The url is not one that Redis has.
    """

    def __init__(
        self, url: str | None, *, command_timeout: float = COMMAND_TIMEOUT, liveness: Liveness | None = None
    ) -> None:
        self._redis = None if url is None else _connect(url)
        self._connections = asyncio.Semaphore(MAX_CONNECTIONS)
        self._breaker = Breaker(
            BreakerLimits(
                window=BREAKER_WINDOW,
                min_calls=BREAKER_WINDOW // 2,
                failure_rate=0.5,
                open_for=OPEN_FOR,
                max_open_for=OPEN_FOR,
            )
        )
        self._command_timeout = command_timeout
        self._slow = command_timeout * SLOW_COMMAND / COMMAND_TIMEOUT
        self._latency_probe = LatencyProbe(self._slow)
        self._liveness = liveness or Liveness()
        self._component: Component | None = None
        self._probing: asyncio.Task[None] | None = None
        self._state: ConnectionState = "up"
        self.writer = BatchWriter(self.evaluate_each)
        """Takes what histories have to write."""
        self._unobserve: Callable[[], None] = lambda: None

    async def __aenter__(self) -> Self:
        """Nothing is connected yet: the first command does that."""
        if self._redis is not None:
            self._unobserve = observe(semconv.CACHE_UP, lambda: float(self._state != "absent"))
            self._component = self._liveness.component("connection to the cache")
            self._probing = self._component.run(self._probe_loop(self._component))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Disconnect, when what was to be written is."""
        await self.writer.idle()
        self._unobserve()
        if self._component is not None:
            self._component.close()
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.wait({self._probing})
        if self._redis is not None:
            await self._redis.aclose()

    @property
    def configured(self) -> bool:
        """Whether there is one to ask at all, reachable or not."""
        return self._redis is not None

    @property
    def available(self) -> bool:
        """Whether the last command was answered, be it by "I am full"; True before the first."""
        return self._state != "absent"

    async def get(self, key: str) -> bytes | None:
        """The value, or None if there is none or the cache is absent."""
        if self._redis is None:
            return None
        redis = self._redis
        found = await self._execute(lambda: redis.get(key), lambda _: False)
        return found.encode() if isinstance(found, str) else found

    async def put(self, key: str, value: bytes, ttl: float) -> None:
        """Keep a value for `ttl` seconds."""
        if (redis := self._redis) is not None:
            await self._execute(lambda: redis.set(key, value, px=max(1, round(ttl * 1_000))), lambda _: True)

    async def evaluate_key(self, script: Script, key: str, *arguments: bytes | int) -> bytes | None:
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
        return await self._execute(
            lambda: self._eval(script, keys, *arguments), lambda found: script.writes and not found
        )

    async def evaluate_each(self, script: Script, calls: Sequence[ScriptCall]) -> list[object]:
        """What the script returns for each of several calls, sent together in one round trip; see `run`.

        Each call is a step of its own: one that fails has None, and the others what they are returned.
        """
        if len(calls) == 1:  # a pipeline would cost a lone run a fifth more
            key, arguments = calls[0]
            return [await self.evaluate(script, [key], *arguments)]
        found: list[object] | None = None
        if self._redis is not None:
            found = await self._execute(
                lambda: self._eval_each(script, calls), lambda found: script.writes and not any(found)
            )
        return [None] * len(calls) if found is None else [self._result_or_none(one) for one in found]

    async def scan_keys(self, pattern: str) -> list[str]:
        """The keys that fit a glob pattern; none if the cache is absent. Reads the names of all keys: for people."""
        redis: Any = self._redis
        found: set[bytes] = set()
        cursor: int | None = None if redis is None else 0
        while cursor is not None:
            scan = functools.partial(redis.scan, cursor, match=pattern, count=1_000)
            answer: tuple[int, list[bytes]] | None = await self._execute(scan, lambda _: False)
            if answer is None:
                return []
            found.update(answer[1])
            cursor = answer[0] or None
        return sorted(key.decode() for key in found)

    async def _eval(self, script: Script, keys: Sequence[str], *arguments: bytes | int) -> object:
        from redis.exceptions import NoScriptError  # noqa: PLC0415 - loaded by now

        redis: Any = self._redis
        try:
            return await redis.evalsha(script.sha, len(keys), *keys, *arguments)
        except NoScriptError:  # the server was restarted, or never saw it
            return await redis.eval(script.text, len(keys), *keys, *arguments)

    async def _eval_each(self, script: Script, calls: Sequence[ScriptCall]) -> list[object]:
        from redis.exceptions import NoScriptError  # noqa: PLC0415 - loaded by now

        found = await self._pipeline("EVALSHA", script.sha, calls)
        missed = [place for place, one in enumerate(found) if isinstance(one, NoScriptError)]
        if missed:
            again = await self._pipeline("EVAL", script.text, [calls[place] for place in missed])
            for place, one in zip(missed, again, strict=True):
                found[place] = one
        return found

    async def _pipeline(self, command: str, script: str, calls: Sequence[ScriptCall]) -> list[object]:
        redis: Any = self._redis
        pipeline = redis.pipeline(transaction=False)
        for key, arguments in calls:
            pipeline.execute_command(command, script, 1, key, *arguments)
        found: list[object] = await pipeline.execute(raise_on_error=False)
        return found

    # -- surviving ------------------------------------------------------------------------------------------------

    async def _execute(self, command: Callable[[], Awaitable[T]], wrote: Callable[[T], bool]) -> T | None:
        # Many at once wait here, not in the pool, where a busy cache would be taken for an absent one; when it is
        # found absent, those that wait are told at once.
        if self._breaker.retry_at() is not None or not await self._acquire_connection():
            return None
        try:
            if self._breaker.retry_at() is not None:
                return None
            return await self._execute_once(command, wrote, self._latency_probe)
        finally:
            self._connections.release()

    async def _acquire_connection(self) -> bool:
        if self._connections.locked():
            try:
                async with asyncio.timeout(POOL_TIMEOUT):
                    return await self._connections.acquire()
            except TimeoutError as error:
                if self._breaker.retry_at() is None:
                    self._count_error(error)
                    self._open_breaker(f"none of its {MAX_CONNECTIONS} connections was free for {POOL_TIMEOUT:g} s")
                return False
        return await self._connections.acquire()

    async def _execute_once(
        self, command: Callable[[], Awaitable[T]], wrote: Callable[[T], bool], sampler: LatencyProbe
    ) -> T | None:
        from redis.exceptions import OutOfMemoryError, RedisError  # noqa: PLC0415 - loaded by now

        try:
            with sampler.sample() as sample:
                found = await _with_timeout(command, self._command_timeout)
        except (RedisError, OSError) as error:
            self._result_or_none(error)
            if isinstance(error, OutOfMemoryError):
                self._record_latency(sample)
            return None
        self._record_latency(sample)
        if self._state == "full" and wrote(found):
            log.info("the cache has room again")
            self._state = "up"
        return found

    def _result_or_none(self, found: object) -> object:
        """What was found, or None if it is an error, which is taken for what it says of the cache."""
        from redis.exceptions import OutOfMemoryError  # noqa: PLC0415 - loaded by now

        if not isinstance(found, Exception):
            return found
        self._count_error(found)
        if isinstance(found, OutOfMemoryError):  # what it has can still be read: no reason to leave it alone
            self._set_state("full", f"the cache is full, nothing is kept until it has room: {found}")
        else:
            self._open_breaker(str(found))
        return None

    def _record_latency(self, sample: LatencySample) -> None:
        if not sample.timed:
            return
        if not sample.slow:
            self._breaker.record_success()
            return
        self._breaker.record_failure(time.monotonic())
        if self._breaker.retry_at() is not None:
            self._open_breaker(f"half of its last answers took longer than {self._slow:g} s")

    def _open_breaker(self, why: str) -> None:
        """Leave it alone; it is tried behind the commands that go on without it."""
        self._breaker.record_failure(time.monotonic(), open_for=OPEN_FOR)
        self._set_state("absent", f"the cache is absent, going on without it: {why}")

    async def _probe_loop(self, part: Component) -> None:
        """Try the cache for as long as it is left alone; each turn is progress, also one that finds it away."""
        while True:
            part.progress()
            at = self._breaker.retry_at()
            await asyncio.sleep(CHECK_INTERVAL if at is None else min(CHECK_INTERVAL, max(0.0, at - time.monotonic())))
            if at is not None and self._breaker.allow(time.monotonic()):  # else a failure has put it off meanwhile
                await self._probe()

    async def _probe(self) -> None:
        redis: Any = self._redis
        try:
            await self._execute_once(
                lambda: redis.set(_PROBE_KEY, b"", px=1_000), lambda _: True, LatencyProbe(self._slow)
            )
        except Exception as error:  # a bug in the client must not have the cache left alone for good
            log.exception("the cache could not be tried")
            self._count_error(error)
            self._open_breaker(error_message(error))
        if self._state == "absent" and self._breaker.retry_at() is None:
            log.info("the cache is back")
            self._state = "up"

    def _count_error(self, error: Exception) -> None:
        count(semconv.CACHE_ERRORS, 1, {semconv.ERROR_TYPE: type(error).__name__})

    def _set_state(self, state: ConnectionState, told: str) -> None:
        """Say it once, however often it is found."""
        if self._state != state:
            log.warning("%s", told)
        self._state = state


async def _with_timeout(command: Callable[[], Awaitable[T]], command_timeout: float) -> T:
    """Wait for an answer, connecting and what is said on a new connection included."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(None) as limit:
            ends = LoopAwareTimer(command_timeout, lambda: limit.reschedule(loop.time()))
            try:
                return await command()
            finally:
                ends.cancel()
    except TimeoutError as error:
        raise TimeoutError(f"no answer within {command_timeout:g} s") from error


def _connect(url: str) -> "Redis":
    from redis.asyncio import ConnectionPool, Redis  # noqa: PLC0415 - 0.1 s a client without a cache saves
    from redis.asyncio.retry import Retry  # noqa: PLC0415
    from redis.backoff import NoBackoff  # noqa: PLC0415

    try:
        pool = ConnectionPool.from_url(
            url,
            max_connections=MAX_CONNECTIONS,
            socket_timeout=None,  # see _answered
            socket_connect_timeout=None,
            retry=Retry(NoBackoff(), 1),  # a kept connection may have died unnoticed
        )
        return Redis.from_pool(pool)
    except ValueError as error:
        raise SetupError(f"POISE_REDIS_URL: {error}; give redis://host:port/db") from error
