"""A log reader: reads a topic for as long as its process runs, whatever happens to the topic meanwhile.

One rule for all errors:

- A record cannot be applied: it is logged, counted and skipped.
- A retriable error (see `retriable`), because the broker, a leader or the topic is unavailable: reading is retried with
  backoff; the process is not ready meanwhile.
- The topic was recreated, or truncated below the reader's position: what was read is dropped (`on_reset`), which is
  logged once, and the topic is read from the beginning.
- Anything else, including a `SetupError` of `apply`: the reader ends, and its process with it (see `liveness`).
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Final, Self

from pydantic import ValidationError

from poise.errors import InvalidMessageError, PoiseError, SetupError, UnavailableError
from poise.kafka.admin import KafkaAdmin
from poise.kafka.connection import Connection
from poise.kafka.log_stream import LogStream, LogTruncatedError, Start
from poise.kafka.record import Record
from poise.kafka.retriable import is_retriable
from poise.kafka.topic_identities import TopicIdentities
from poise.kafka.undecodable import OnUndecodable, log_undecodable
from poise.liveness import CHECK_INTERVAL, Component, Liveness
from poise.telemetry import count, semconv
from poise.text.error_text import error_message

log = logging.getLogger(__name__)

RETRY_BACKOFF: Final = 0.2
"""Seconds until a failed read is retried; doubles with each failure."""
MAX_RETRY_BACKOFF: Final = 5.0
OPEN_TIMEOUT: Final = 30.0
REREAD_OVERLAP: Final = 10.0
"""Seconds that a reader which started at the end reads again when it restarts."""
SKIP_LOG_INTERVAL: Final = 1.0
"""Seconds between two log lines about skipped records of a topic: some topics can be written by anyone, at any rate."""

Apply = Callable[[Record], None]
"""Applies one record. If it raises, the record is skipped; a `SetupError` ends the process."""


async def no_reset() -> None:
    """Keep what was read: it stays valid whatever happens to the topic."""


async def run_inline(work: Callable[[], None]) -> None:
    """Apply records on the event loop."""
    work()


@dataclass(frozen=True, slots=True)
class LogAccess:
    """What every log reader of a process needs."""

    connection: Connection
    admin: KafkaAdmin
    liveness: Liveness
    identities: TopicIdentities
    on_undecodable: OnUndecodable = log_undecodable
    """Receives each batch that cannot be decoded; the reader skips it."""


class LogReader:
    """Reads every partition of a topic, or some: `async with LogReader(…) as reader`.

    `await reader.wait_until_opening_end()` waits for everything that was in the topic when it was opened. Reading
    starts when the block is entered. After an error, `apply` may receive a record again.

    Args:
        access: How to reach the broker, and where to report progress.
        topic: The topic to read.
        apply: Applies one record.
        start: Where to start, see `LogStream`. When the reader restarts, "end" becomes the time of the last read, and
            offsets become the beginning.
        partitions: Which partitions; None = all, including those that are added later.
        on_reset: Drops what was read, because the topic no longer contains it. It may raise `UnavailableError`, and is
            then called again.
        on_opening_end: Called each time that everything is applied which was in the topic when it was opened.
        run_batch: Runs the application of a batch: on the event loop, or in a thread.
    """

    def __init__(
        self,
        access: LogAccess,
        topic: str,
        apply: Apply,
        *,
        start: Start = "beginning",
        partitions: Sequence[int] | None = None,
        on_reset: Callable[[], Awaitable[None]] = no_reset,
        on_opening_end: Callable[[], None] = lambda: None,
        run_batch: Callable[[Callable[[], None]], Awaitable[None]] = run_inline,
    ) -> None:
        self.topic = topic
        self.lag = 0
        """Offsets between what has been applied and the end that the broker reported last."""
        self._access = access
        self._apply = apply
        self._start = start
        self._partitions = partitions
        self._on_reset = on_reset
        self._on_opening_end = on_opening_end
        self._run_batch = run_batch
        self._stream: LogStream | None = None
        self._id: str | None = None
        self._positions: dict[int, int] = {}
        self._ends: Mapping[int, int] = {}
        self._read_until = time.time()
        self._reopen = False
        self._stale_reason: str | None = None
        self._progress = asyncio.Event()
        self._skips = _SkipLog(topic)
        self._component: Component | None = None
        self._task: asyncio.Task[None] | None = None

    # -- lifecycle -----------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Start reading; `wait_until_open` and `wait_until_opening_end` wait for its progress."""
        self._component = self._access.liveness.component(f"reader of {self.topic}")
        self._task = self._component.run(self._read(self._component))
        self._access.identities.watch(self.topic, self._recreated)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop reading."""
        self._access.identities.unwatch(self.topic, self._recreated)
        if self._component is not None:
            self._component.close()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    # -- progress -------------------------------------------------------------------------------------------------

    @property
    def failure(self) -> SetupError | None:
        """The error that ended reading; None = reading continues."""
        if self._task is None or not self._task.done():
            return None
        error = RuntimeError("its task was cancelled") if self._task.cancelled() else self._task.exception()
        return error if isinstance(error, SetupError) else SetupError(f"reading of topic {self.topic} ended: {error!r}")

    @property
    def reading(self) -> bool:
        """Whether the topic is open: records arrive as they are written."""
        return self._stream is not None

    def reached_opening_end(self) -> bool:
        """Return whether everything has been applied that was in the topic when it was last opened.

        It stays true while newer records wait: for those see `lag`.
        """
        return self.reading and self.reached(self._ends)

    def reached(self, ends: Mapping[int, int]) -> bool:
        """Return whether everything before these offsets has been applied."""
        return all(self._positions.get(number, 0) >= end for number, end in ends.items())

    async def wait_until_open(self, within: float = OPEN_TIMEOUT) -> None:
        """Wait until the start position is known: everything that is written from then on will be applied.

        Raises:
            SetupError: It is not known after `within` seconds, or reading has ended.
        """
        await self._wait_within(lambda: self.reading, "cannot be read", within)

    async def wait_until_opening_end(self, within: float = OPEN_TIMEOUT) -> None:
        """Wait until everything has been applied that was in the topic when it was opened.

        Raises:
            SetupError: It was not after `within` seconds, or reading has ended.
        """
        await self._wait_within(self.reached_opening_end, "was not read to its end", within)

    async def _wait_within(self, check: Callable[[], bool], what: str, within: float) -> None:
        try:
            async with asyncio.timeout(within):
                await self.wait_until(check)
        except TimeoutError as error:
            why = (self._component and self._component.blocked_by) or "try again"
            raise SetupError(f"{self.topic} {what} in {within:g} s: {why}") from error

    async def wait_until(self, check: Callable[[], bool]) -> None:
        """Wait for a condition that applied records bring about; it is checked after each batch, and each second.

        Raises:
            SetupError: Reading has ended, or another part of the process has failed.
        """
        while not check():
            if (failure := self.failure) is not None:
                raise failure
            progress = self._progress
            try:
                async with asyncio.timeout(CHECK_INTERVAL):
                    await progress.wait()
            except TimeoutError:  # while a process starts, nothing else watches its liveness
                if (reason := self._access.liveness.check()) is not None:
                    raise reason from None

    def _signal_progress(self) -> None:
        self._progress.set()
        self._progress = asyncio.Event()

    # -- reading --------------------------------------------------------------------------------------------------

    async def _read(self, component: Component) -> None:
        pause = RETRY_BACKOFF
        try:
            while True:
                try:
                    await self._read_stream(component)
                    pause = RETRY_BACKOFF
                except LogTruncatedError as error:
                    self._stale_reason = str(error)
                except Exception as error:
                    if not is_retriable(error):
                        raise
                    if component.blocked_by is None:
                        log.warning("%s: trying again", error_message(error))
                    component.report_blocked(error_message(error))
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, MAX_RETRY_BACKOFF)
                finally:
                    self._stream = None
        finally:
            self._signal_progress()  # waiting callers then see the failure

    async def _read_stream(self, component: Component) -> None:
        """Read from the current position on, until the topic turns out to be recreated or to have more partitions."""
        self._reopen = False
        found = await self._access.admin.metadata(self.topic)
        if self._id not in {None, found.id}:
            self._stale_reason = f"topic {self.topic} was recreated"
        if self._stale_reason is not None:
            await self._restart_from_scratch(self._stale_reason)
        self._id, self._stale_reason = found.id, None
        self._access.identities.watch(self.topic, self._recreated, known=found.id)
        start = self._positions or self._start
        async with LogStream(
            self._access.connection,
            self.topic,
            start=start,
            partitions=self._partitions,
            on_undecodable=self._access.on_undecodable,
        ) as stream:
            if stream.truncated:
                number = min(stream.truncated)
                raise LogTruncatedError(
                    f"topic {self.topic} was truncated: partition {number} ends before the reader's position"
                )
            self._ends, reached_end = dict(stream.ends), False
            self._note(stream)
            self._stream = stream
            self._signal_progress()
            async for records in stream.polls():
                if self._reopen or self._partitions_added(found.partitions):
                    return
                if records:
                    await self._run_batch(partial(self._apply_each, records))
                self._note(stream)
                if not reached_end and (reached_end := self.reached_opening_end()):
                    self._on_opening_end()
                self._report_poll(stream, component)

    def _report_poll(self, stream: LogStream, component: Component) -> None:
        """Report a poll. A partition without leader makes the process not ready; the others are still read.

        Raises:
            UnavailableError: A partition is stalled for no known reason: another connection may help.
        """
        self.lag = stream.lag()
        if stalled := stream.stalled_partitions():
            latest = self._access.identities.latest(self.topic)
            numbers = ", ".join(map(str, sorted(stalled)))
            if latest is None or not stalled <= latest.leaderless:
                raise UnavailableError(f"topic {self.topic}: the broker does not answer fetches of partition {numbers}")
            component.report_blocked(f"topic {self.topic}: partition {numbers} has no leader")
        else:
            component.progress()
        self._signal_progress()

    def _note(self, stream: LogStream) -> None:
        for number in stream.partitions:
            self._positions[number] = stream.position(number)
        self._read_until = time.time()

    def _partitions_added(self, partitions: int) -> bool:
        latest = self._access.identities.latest(self.topic)
        return self._partitions is None and latest is not None and latest.partitions > partitions

    def _recreated(self, _: str) -> None:
        self._reopen = True

    def restart(self, why: str) -> None:
        """Drop what was read and read the topic from the beginning, because something it depends on was replaced."""
        self._stale_reason, self._reopen = why, True

    async def _restart_from_scratch(self, why: str) -> None:
        await self._on_reset()
        log.warning("%s: what was read of it is dropped, and it is read again", why)
        if self._start == "end":
            self._start = self._read_until - REREAD_OVERLAP
        elif isinstance(self._start, Mapping):
            self._start = "beginning"
        self._positions, self._ends = {}, {}

    def _apply_each(self, records: Sequence[Record]) -> None:
        for record in records:
            try:
                self._apply(record)
            except SetupError:  # not an error of this record: the process cannot go on
                raise
            except Exception as error:  # noqa: BLE001 - no error of one record may stop the records behind it
                self._skips.note(record, error)


class _SkipLog:
    """Counts the skipped records of a topic, and logs them at a limited rate."""

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._logged_at = 0.0
        self._suppressed = 0

    def note(self, record: Record, error: Exception) -> None:
        """Note a skipped record."""
        count(semconv.RECORDS_SKIPPED, 1, {semconv.MESSAGING_DESTINATION: self._topic})
        now = time.monotonic()
        if now - self._logged_at < SKIP_LOG_INTERVAL:
            self._suppressed += 1
            return
        more = f" ({self._suppressed} more since the last such message)" if self._suppressed else ""
        self._logged_at, self._suppressed = now, 0
        if isinstance(error, ValidationError):
            error = InvalidMessageError.of(error)
        trace = None if isinstance(error, ValueError | PoiseError) else error  # the message of these says enough
        log.warning("%s cannot be applied and is skipped%s: %r", record.position, more, error, exc_info=trace)
