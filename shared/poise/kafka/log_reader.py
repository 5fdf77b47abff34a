"""A log reader: reads a topic for as long as its process runs, whatever happens to the topic meanwhile.

One rule for all that goes wrong:

    a record that cannot be applied         it is logged, counted and skipped
    the broker, a leader or the topic is    tried again with backoff; meanwhile the process is not ready
    away
    the topic was deleted and made again,   what was read is dropped (`reset`), once, with one line in the log, and the
    or ends before what was read of it      topic is read anew
    anything else, `SetupError` of `apply`  the reader ends, and its process with it: see `liveness`
    among it
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

from poise.errors import InvalidMessageError, MissingTopicError, PoiseError, SetupError, UnavailableError
from poise.kafka.admin import KafkaAdmin
from poise.kafka.connection import Connection
from poise.kafka.log_stream import LogStream, LogTruncatedError, Start
from poise.kafka.record import Record
from poise.kafka.topic_identities import TopicIdentities
from poise.kafka.undecodable import OnUndecodable, log_undecodable
from poise.liveness import LOOK_EVERY, Liveness, Part
from poise.telemetry import count, semconv

log = logging.getLogger(__name__)

RETRY_BACKOFF: Final = 0.2
"""Seconds after which a log that could not be read is tried again; twice as long each time."""
MAX_RETRY_BACKOFF: Final = 5.0
OPEN_TIMEOUT: Final = 30.0
REREAD_OVERLAP: Final = 10.0
"""Seconds by which a reader that began at the end reads again what it may have read, when it starts over."""
SKIP_LOG_INTERVAL: Final = 1.0
"""Seconds between two lines about skipped records of one topic: anyone may write to some, as fast as they like."""

Apply = Callable[[Record], None]
"""Takes one record. What it raises is the record's fault, which is skipped; a `SetupError` ends the process."""


async def no_reset() -> None:
    """Keep what was read: it holds whatever became of the topic."""


async def run_inline(work: Callable[[], None]) -> None:
    """Apply records on the event loop."""
    work()


@dataclass(frozen=True, slots=True)
class LogAccess:
    """What every reader of a process reads by."""

    connection: Connection
    admin: KafkaAdmin
    liveness: Liveness
    identities: TopicIdentities
    on_undecodable: OnUndecodable = log_undecodable
    """Given each batch that cannot be decoded; it is passed over."""


class LogReader:
    """Reads every partition of a topic, or some; `async with LogReader(…) as reader: await reader.wait_until_at_end()`.

    It reads from the moment it is entered. `apply` may be given a record again, after an error.

    Args:
        access: How the broker is reached, and who is told how it goes.
        topic: What to read.
        apply: Takes one record.
        start: Where to begin: see `LogStream`. Starting over, "end" is the time up to which was read, and offsets are
            the beginning.
        partitions: Which partitions; None = all, also those that are added later.
        reset: Drops what was read, for it is not in the topic any more. It may raise `UnavailableError`, and is then
            called again.
        reached_end: Told each time that everything is applied which was in the topic when it was opened.
        run: Where a batch of records is applied: on the event loop, or in a thread.
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
        on_at_end: Callable[[], None] = lambda: None,
        run_batch: Callable[[Callable[[], None]], Awaitable[None]] = run_inline,
    ) -> None:
        self.topic = topic
        self.lag = 0
        """How many offsets there are between what has been applied and the end, as the broker said it last."""
        self._access = access
        self._apply = apply
        self._start = start
        self._partitions = partitions
        self._on_reset = on_reset
        self._on_at_end = on_at_end
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
        self._part: Part | None = None
        self._task: asyncio.Task[None] | None = None

    # -- coming and going -----------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Begin to read; `opened` and `caught_up` tell how far it has come."""
        self._part = self._access.liveness.part(f"reader of {self.topic}")
        self._task = self._part.run(self._read(self._part))
        self._access.identities.watch(self.topic, self._recreated)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Read no more."""
        self._access.identities.unwatch(self.topic, self._recreated)
        if self._part is not None:
            self._part.close()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    # -- how far it has come --------------------------------------------------------------------------------------

    @property
    def failure(self) -> SetupError | None:
        """Why nothing is read any more; None = it goes on."""
        if self._task is None or not self._task.done():
            return None
        error = RuntimeError("its task was cancelled") if self._task.cancelled() else self._task.exception()
        return error if isinstance(error, SetupError) else SetupError(f"topic {self.topic} is read no more: {error!r}")

    @property
    def reading(self) -> bool:
        """Whether records come in as they are written; it has nothing of a topic that it does not read now."""
        return self._stream is not None

    def at_end(self) -> bool:
        """Whether everything has been applied that was in the topic when it was last opened."""
        return self.reading and self.reached(self._ends)

    def reached(self, ends: Mapping[int, int]) -> bool:
        """Whether everything before these offsets has been applied."""
        return all(self._positions.get(number, 0) >= end for number, end in ends.items())

    async def wait_until_open(self, within: float = OPEN_TIMEOUT) -> None:
        """Wait until it is known where reading starts: what is written from then on will be applied.

        Raises:
            SetupError: It is not known in so many seconds, or reading has failure.
        """
        await self._wait_within(lambda: self.reading, "cannot be read", within)

    async def wait_until_at_end(self, within: float = OPEN_TIMEOUT) -> None:
        """Wait until everything has been applied that was in the topic when it was opened.

        Raises:
            SetupError: It was not in so many seconds, or reading has failure.
        """
        await self._wait_within(self.at_end, "was not read to its end", within)

    async def _wait_within(self, check: Callable[[], bool], what: str, within: float) -> None:
        try:
            async with asyncio.timeout(within):
                await self.wait_until(check)
        except TimeoutError as error:
            why = (self._part and self._part.waits_for) or "try again"
            raise SetupError(f"{self.topic} {what} in {within:g} s: {why}") from error

    async def wait_until(self, check: Callable[[], bool]) -> None:
        """Wait for something that what is read brings about; it is checked after each batch, and each second.

        Raises:
            SetupError: Reading has failure, or another part of the process has.
        """
        while not check():
            if (failure := self.failure) is not None:
                raise failure
            moved = self._progress
            try:
                async with asyncio.timeout(LOOK_EVERY):
                    await moved.wait()
            except TimeoutError:  # a process that begins is watched by nobody yet
                if (reason := self._access.liveness.look()) is not None:
                    raise reason from None

    def _signal_progress(self) -> None:
        self._progress.set()
        self._progress = asyncio.Event()

    # -- reading --------------------------------------------------------------------------------------------------

    async def _read(self, part: Part) -> None:
        pause = RETRY_BACKOFF
        try:
            while True:
                try:
                    await self._read_stream(part)
                    pause = RETRY_BACKOFF
                except LogTruncatedError as error:
                    self._stale_reason = str(error)
                except (UnavailableError, MissingTopicError) as error:
                    if part.waits_for is None:
                        log.warning("%s: trying again", error)
                    part.wait(str(error))
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, MAX_RETRY_BACKOFF)
                finally:
                    self._stream = None
        finally:
            self._signal_progress()  # whoever waits learns that it has failure

    async def _read_stream(self, part: Part) -> None:
        """Read on from where it is, until the topic turns out to be another one, or to have more partitions."""
        self._reopen = False
        found = await self._access.admin.metadata(self.topic)
        if self._id not in {None, found.id}:
            self._stale_reason = f"topic {self.topic} was deleted and made again"
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
                    f"topic {self.topic} was truncated: partition {number} ends before what was read"
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
                if not reached_end and (reached_end := self.at_end()):
                    self._on_at_end()
                self._report_poll(stream, part)

    def _report_poll(self, stream: LogStream, part: Part) -> None:
        """Tell how the turn went: a partition without leader holds up the process's readiness, not the others' records.

        Raises:
            UnavailableError: Nothing is heard of a partition, for no reason that is known: another connection may help.
        """
        self.lag = stream.lag()
        if silent := stream.stalled_partitions():
            now = self._access.identities.latest(self.topic)
            numbers = ", ".join(map(str, sorted(silent)))
            if now is None or not silent <= now.leaderless:
                raise UnavailableError(f"topic {self.topic}: nothing is heard of partition {numbers}")
            part.wait(f"topic {self.topic}: partition {numbers} has no leader")
        else:
            part.progress()
        self._signal_progress()

    def _note(self, stream: LogStream) -> None:
        for number in stream.partitions:
            self._positions[number] = stream.position(number)
        self._read_until = time.time()

    def _partitions_added(self, partitions: int) -> bool:
        now = self._access.identities.latest(self.topic)
        return self._partitions is None and now is not None and now.partitions > partitions

    def _recreated(self, _: str) -> None:
        self._reopen = True

    def restart(self, why: str) -> None:
        """Have what was read dropped, and the topic read anew: something else that it depends on is another one."""
        self._stale_reason, self._reopen = why, True

    async def _restart_from_scratch(self, why: str) -> None:
        await self._on_reset()
        log.warning("%s: it is read anew, and what was read of it is dropped", why)
        if self._start == "end":
            self._start = self._read_until - REREAD_OVERLAP
        elif isinstance(self._start, Mapping):
            self._start = "beginning"
        self._positions, self._ends = {}, {}

    def _apply_each(self, records: Sequence[Record]) -> None:
        for record in records:
            try:
                self._apply(record)
            except SetupError:
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is: one record must not stop those behind it
                self._skips.note(record, error)


class _SkipLog:
    """Counts the records of a topic that were skipped, and tells of them once in a while."""

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._logged_at = 0.0
        self._suppressed = 0

    def note(self, record: Record, error: Exception) -> None:
        """One was skipped."""
        count(semconv.RECORDS_SKIPPED, 1, {semconv.MESSAGING_DESTINATION: self._topic})
        now = time.monotonic()
        if now - self._logged_at < SKIP_LOG_INTERVAL:
            self._suppressed += 1
            return
        more = f" ({self._suppressed} more since the last such line)" if self._suppressed else ""
        self._logged_at, self._suppressed = now, 0
        if isinstance(error, ValidationError):
            error = InvalidMessageError.of(error)
        trace = None if isinstance(error, ValueError | PoiseError) else error  # they say all there is
        log.warning("%s cannot be applied and is skipped%s: %r", record.position, more, error, exc_info=trace)
