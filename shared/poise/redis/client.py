"""RedisClient: an optional connection to Redis or Valkey.

While it is unavailable, reads return None and writes are dropped.
"""

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
from poise.redis.latency_sampler import LatencySample, LatencySampler
from poise.redis.loop_aware_timer import LoopAwareTimer
from poise.redis.script import Script, ScriptCall
from poise.resilience.breaker import Breaker, BreakerLimits
from poise.telemetry import count, observe, semconv
from poise.text.error_text import error_message

if TYPE_CHECKING:
    from redis.asyncio import Redis

log = logging.getLogger(__name__)

T = TypeVar("T")

ConnectionState = Literal["up", "full", "unavailable"]

COMMAND_TIMEOUT: Final = 0.5
"""Seconds after which a command times out and the circuit breaker opens."""
SLOW_COMMAND: Final = COMMAND_TIMEOUT / 5
"""Seconds above which a command is slow. The breaker also opens when half of the timed commands are slow."""
OPEN_FOR: Final = 2.0
"""Seconds for which the breaker stays open, and between two probes. Shorter than a lease."""
MAX_CONNECTIONS: Final = 32
"""Commands in flight at once; further ones wait for a free connection."""
POOL_TIMEOUT: Final = 1.0
"""Seconds that a command waits for a connection. After that Redis cannot keep up, and the breaker opens."""

BREAKER_WINDOW: Final = 8
"""Number of timed commands that count.

Half of them must be slow, so a run waits for at most `BREAKER_WINDOW / 2 + 1` slow commands.
"""

_PROBE_KEY: Final = "poise:tried"
"""Key that a probe writes: a Redis that only accepts reads does not count as available."""


class RedisClient:
    """Redis behind a circuit breaker: `async with RedisClient(url) as redis`; without a URL it is always unavailable.

    The breaker opens at once when a command fails or times out, and when commands are slow for a while. While it is
    open, no command waits for Redis; a background task probes it until it answers again, and in time.

    Args:
        url: The URL of the server; None = no Redis.
        command_timeout: Seconds after which a command times out; a command that takes a fifth of them is slow.
        liveness: Watches the probing task. An unavailable Redis neither ends the process nor makes it not ready, but
            the probing must not stop.

    Raises:
        SetupError: The URL is not a Redis URL.
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
        self._latency_sampler = LatencySampler(self._slow)
        self._liveness = liveness or Liveness()
        self._component: Component | None = None
        self._probing: asyncio.Task[None] | None = None
        self._state: ConnectionState = "up"
        self.writer = BatchWriter(self.evaluate_each)
        """Writes journal entries in batches."""
        self._unobserve: Callable[[], None] = lambda: None

    async def __aenter__(self) -> Self:
        """Start the probing task. The first command connects."""
        if self._redis is not None:
            self._unobserve = observe(semconv.REDIS_UP, lambda: float(self._state != "unavailable"))
            self._component = self._liveness.component("connection to Redis")
            self._probing = self._component.run(self._probe_loop(self._component))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Wait for pending writes, then disconnect."""
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
        """Whether a Redis is configured, reachable or not."""
        return self._redis is not None

    @property
    def available(self) -> bool:
        """Whether the last command was answered, also when the answer was "out of memory"; True before the first."""
        return self._state != "unavailable"

    async def get(self, key: str) -> bytes | None:
        """Return the value, or None if there is none or Redis is unavailable."""
        if self._redis is None:
            return None
        redis = self._redis
        result = await self._execute(lambda: redis.get(key), lambda _: False)
        return result.encode() if isinstance(result, str) else result

    async def put(self, key: str, value: bytes, ttl: float) -> None:
        """Store a value for `ttl` seconds."""
        if (redis := self._redis) is not None:
            await self._execute(lambda: redis.set(key, value, px=max(1, round(ttl * 1_000))), lambda _: True)

    async def evaluate_key(self, script: Script, key: str, *arguments: bytes | int) -> bytes | None:
        """Run a script on a key and return its result; None if it returns nothing or Redis is unavailable.

        A command whose reply was lost is sent a second time, so a script must be idempotent.
        """
        if self._redis is None:
            return None
        result = await self.evaluate(script, [key], *arguments)
        return result if isinstance(result, bytes) else None

    async def evaluate(self, script: Script, keys: Sequence[str], *arguments: bytes | int) -> object:
        """Run a script on several keys and return its result: bytes, int or a list of them; see `evaluate_key`.

        On a cluster the keys must be in one slot: give them the same `{tag}`.
        """
        if self._redis is None:
            return None
        return await self._execute(
            lambda: self._eval(script, keys, *arguments),
            lambda result: script.empty_result_means_written and not result,
        )

    async def evaluate_each(self, script: Script, calls: Sequence[ScriptCall]) -> list[object]:
        """Run a script once for each call, in one round trip, and return the results; see `evaluate_key`.

        The calls are independent: a failed one yields None, and the others yield their results.
        """
        if len(calls) == 1:  # a pipeline would cost a lone run a fifth more
            key, arguments = calls[0]
            return [await self.evaluate(script, [key], *arguments)]
        result: list[object] | None = None
        if self._redis is not None:
            result = await self._execute(
                lambda: self._eval_each(script, calls),
                lambda result: script.empty_result_means_written and not any(result),
            )
        return [None] * len(calls) if result is None else [self._result_or_none(item) for item in result]

    async def scan_keys(self, pattern: str) -> list[str]:
        """Return the keys that match a glob pattern; none if Redis is unavailable.

        Scans the whole key space: for operators' commands only.
        """
        redis: Any = self._redis
        result: set[bytes] = set()
        cursor: int | None = None if redis is None else 0
        while cursor is not None:
            scan = functools.partial(redis.scan, cursor, match=pattern, count=1_000)
            answer: tuple[int, list[bytes]] | None = await self._execute(scan, lambda _: False)
            if answer is None:
                return []
            result.update(answer[1])
            cursor = answer[0] or None
        return sorted(key.decode() for key in result)

    async def _eval(self, script: Script, keys: Sequence[str], *arguments: bytes | int) -> object:
        from redis.exceptions import NoScriptError  # noqa: PLC0415 - loaded by now

        redis: Any = self._redis
        try:
            return await redis.evalsha(script.sha, len(keys), *keys, *arguments)
        except NoScriptError:  # the server was restarted, or has never run it
            return await redis.eval(script.text, len(keys), *keys, *arguments)

    async def _eval_each(self, script: Script, calls: Sequence[ScriptCall]) -> list[object]:
        from redis.exceptions import NoScriptError  # noqa: PLC0415 - loaded by now

        result = await self._pipeline("EVALSHA", script.sha, calls)
        missing = [index for index, item in enumerate(result) if isinstance(item, NoScriptError)]
        if missing:
            again = await self._pipeline("EVAL", script.text, [calls[index] for index in missing])
            for index, item in zip(missing, again, strict=True):
                result[index] = item
        return result

    async def _pipeline(self, command: str, script: str, calls: Sequence[ScriptCall]) -> list[object]:
        redis: Any = self._redis
        pipeline = redis.pipeline(transaction=False)
        for key, arguments in calls:
            pipeline.execute_command(command, script, 1, key, *arguments)
        result: list[object] = await pipeline.execute(raise_on_error=False)
        return result

    # -- behind the breaker ---------------------------------------------------------------------------------------

    async def _execute(self, command: Callable[[], Awaitable[T]], shows_write: Callable[[T], bool]) -> T | None:
        """Run a command when a connection is free; None = Redis is unavailable, or the command failed.

        Args:
            command: Sends the command.
            shows_write: Returns whether a result shows that Redis has stored something: then it is no longer full.
        """
        # Commands wait here, not in the pool, where a busy Redis would look like an unavailable one. When the breaker
        # opens, the waiting ones return at once.
        if self._breaker.retry_at() is not None or not await self._acquire_connection():
            return None
        try:
            if self._breaker.retry_at() is not None:
                return None
            return await self._execute_once(command, shows_write, self._latency_sampler)
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
        self, command: Callable[[], Awaitable[T]], shows_write: Callable[[T], bool], sampler: LatencySampler
    ) -> T | None:
        from redis.exceptions import OutOfMemoryError, RedisError  # noqa: PLC0415 - loaded by now

        try:
            with sampler.sample() as sample:
                result = await _with_timeout(command, self._command_timeout)
        except (RedisError, OSError) as error:
            self._react_to(error)
            if isinstance(error, OutOfMemoryError):
                self._record_latency(sample)
            return None
        self._record_latency(sample)
        if self._state == "full" and shows_write(result):
            log.info("Redis has room again")
            self._state = "up"
        return result

    def _result_or_none(self, result: object) -> object:
        """Return the result of one call of a pipeline; react to an error and return None."""
        if not isinstance(result, Exception):
            return result
        self._react_to(result)
        return None

    def _react_to(self, error: Exception) -> None:
        """Count an error; note that Redis is full, or open the breaker."""
        from redis.exceptions import OutOfMemoryError  # noqa: PLC0415 - loaded by now

        self._count_error(error)
        if isinstance(error, OutOfMemoryError):  # its data can still be read, so the breaker stays closed
            self._set_state("full", f"Redis is full and stores nothing until it has room: {error}")
        else:
            self._open_breaker(str(error))

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
        """Open the breaker; the probing task closes it."""
        self._breaker.record_failure(time.monotonic(), open_for=OPEN_FOR)
        self._set_state("unavailable", f"Redis is unavailable and not used: {why}")

    async def _probe_loop(self, component: Component) -> None:
        """Probe Redis while the breaker is open. Every turn counts as progress, also one with a failed probe."""
        while True:
            component.progress()
            at = self._breaker.retry_at()
            await asyncio.sleep(CHECK_INTERVAL if at is None else min(CHECK_INTERVAL, max(0.0, at - time.monotonic())))
            if at is not None and self._breaker.allow(time.monotonic()):  # else a failure has postponed it
                await self._probe()

    async def _probe(self) -> None:
        redis: Any = self._redis
        try:
            await self._execute_once(
                lambda: redis.set(_PROBE_KEY, b"", px=1_000), lambda _: True, LatencySampler(self._slow)
            )
        except Exception as error:  # a bug in the client must not stop the probing
            log.exception("the probe of Redis failed unexpectedly")
            self._count_error(error)
            self._open_breaker(error_message(error))
        if self._state == "unavailable" and self._breaker.retry_at() is None:
            log.info("Redis is available again")
            self._state = "up"

    def _count_error(self, error: Exception) -> None:
        count(semconv.REDIS_ERRORS, 1, {semconv.ERROR_TYPE: type(error).__name__})

    def _set_state(self, state: ConnectionState, message: str) -> None:
        """Log a change of state once."""
        if self._state != state:
            log.warning("%s", message)
        self._state = state


async def _with_timeout(command: Callable[[], Awaitable[T]], command_timeout: float) -> T:
    """Await a command for at most `command_timeout` seconds, including connecting and the handshake."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(None) as limit:
            timer = LoopAwareTimer(command_timeout, lambda: limit.reschedule(loop.time()))
            try:
                return await command()
            finally:
                timer.cancel()
    except TimeoutError as error:
        raise TimeoutError(f"no answer within {command_timeout:g} s") from error


def _connect(url: str) -> "Redis":
    from redis.asyncio import ConnectionPool, Redis  # noqa: PLC0415 - saves a client without Redis 0.1 s
    from redis.asyncio.retry import Retry  # noqa: PLC0415
    from redis.backoff import NoBackoff  # noqa: PLC0415

    try:
        pool = ConnectionPool.from_url(
            url,
            max_connections=MAX_CONNECTIONS,
            socket_timeout=None,  # _with_timeout limits the whole command
            socket_connect_timeout=None,
            retry=Retry(NoBackoff(), 1),  # a pooled connection may be dead
        )
        return Redis.from_pool(pool)
    except ValueError as error:
        raise SetupError(f"POISE_REDIS_URL: {error}; give redis://host:port/db") from error
