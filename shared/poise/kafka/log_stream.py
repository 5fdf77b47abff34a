"""Following: reading whole topics by manual assignment, without a group, from a known place.

A `LogStream` is one connection, and ends with its first error. What is to be read for as long as a process lives has a
`LogReader`.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from types import TracebackType
from typing import Final, Literal, Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import (
    KafkaError,
    KafkaTimeoutError,
    OffsetOutOfRangeError,
    UnknownError,
    UnknownTopicOrPartitionError,
)

from poise.errors import MissingTopicError, PoiseError, SetupError, UnavailableError
from poise.kafka.connection import Connection
from poise.kafka.patches import lenient_fetch
from poise.kafka.record import Record
from poise.kafka.shielded_start import shielded_start
from poise.kafka.undecodable import OnUndecodable, log_undecodable

log = logging.getLogger(__name__)

POLL_TIMEOUT_MS: Final = 1_000
MAX_POLL_RECORDS: Final = 2_000
MAX_TIMESTAMP: Final = 9e15
"""The last time that Kafka has, unix seconds."""
STALLED_AFTER: Final = 10.0
"""Seconds of waiting for records after which a partition counts as silent, of which the broker says nothing, not even
that there is nothing new."""

Start = Mapping[int, int] | float | Literal["beginning", "end"]
"""Next offsets by partition, a time (unix seconds), or an end of the log."""


class LogTruncatedError(UnavailableError):
    """A log ends before what was read of it: it was truncated, or restored from a copy."""


class LogStream:
    """Reads every partition of a topic, or some; `async with Follower(…) as log: async for batch in log: …`.

    Args:
        connection: How the broker is connected to.
        topic: What to read.
        start: The next offset to read by partition (one that is absent, or no longer in the log, begins at the
            beginning); or a time, unix seconds, from which on to read; or "beginning", or "end".
        partitions: Which partitions; None = all.
        on_undecodable: Given each batch that cannot be decoded; it is not handed out.
        until: Unix seconds: `ends` are the first records written then or later; None = the ends of the log.

    Raises:
        UnavailableError: The broker does not answer, or hands out nothing; also later, out of the iteration.
        LogTruncatedError: Out of the iteration: the log ends before what was read of it.
        SetupError: There is no such topic or partition, or it may not be read.
    """

    def __init__(
        self,
        connection: Connection,
        topic: str,
        *,
        start: Start = "beginning",
        partitions: Sequence[int] | None = None,
        on_undecodable: OnUndecodable = log_undecodable,
        end_time: float | None = None,
    ) -> None:
        self.topic = topic
        self.partitions: list[int] = list(partitions or ())
        self.ends: dict[int, int] = {}
        """Where `read_to_end` ends: the end offsets as they were when following began, or earlier."""
        self.truncated: frozenset[int] = frozenset()
        """Partitions that end before where they were to be read from."""
        self._start = start
        self._on_undecodable = on_undecodable
        self._end_time = end_time
        self._positions: dict[int, int] = {}
        self._last_heard: dict[int, int | None] = {}  # by partition: when the broker last said something of it
        self._waited: dict[int, float] = {}  # by partition: seconds that were waited since
        lenient_fetch.install()
        self._consumer = AIOKafkaConsumer(
            **connection.client_options(),
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
        )

    async def __aenter__(self) -> Self:
        """Connect, and resolve where reading starts and what the end is."""
        try:
            await shielded_start(self._open())
        except KafkaError as error:
            await self._consumer.stop()
            raise self._translate(error) from error
        except BaseException:
            await self._consumer.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Disconnect."""
        try:
            await self._consumer.stop()
        except asyncio.CancelledError:  # aiokafka lets one of its own out when the broker is gone
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise

    async def _open(self) -> None:
        await self._consumer.start()
        await self._assign()

    async def _assign(self) -> None:
        # Where partitions are given too: asked for offsets of a topic it has not heard of, the client waits 100 ms.
        known = await self._consumer._client._wait_on_metadata(self.topic)  # noqa: SLF001 - the public way needs a subscription
        if missing := set(self.partitions) - set(known):
            raise SetupError(f"topic {self.topic} has no partition {min(missing)}: it was made with fewer than before")
        self.partitions = self.partitions or sorted(known)
        wanted = [TopicPartition(self.topic, number) for number in self.partitions]
        # Before assigning: afterwards these would queue behind a fetch that waits for data, for half a second.
        beginnings = await self._consumer.beginning_offsets(wanted)
        ends = await self._consumer.end_offsets(wanted)
        times = {} if not isinstance(self._start, float) else await self._offsets_for_time(wanted, self._start)
        last = {} if self._end_time is None else await self._offsets_for_time(wanted, self._end_time)
        self.ends = {at.partition: last.get(at.partition, offset) for at, offset in ends.items()}
        self.truncated = frozenset(at.partition for at in wanted if self._start_offset(at.partition) > ends[at])
        self._consumer.assign(wanted)
        for partition in wanted:
            number = partition.partition
            self._positions[number] = times.get(
                number, self._initial_position(number, beginnings[partition], ends[partition])
            )
            self._consumer.seek(partition, self._positions[number])

    async def _offsets_for_time(self, wanted: Sequence[TopicPartition], time: float) -> dict[int, int]:
        """The first offset written at a time or later, where there is one."""
        milliseconds = round(max(0.0, min(time, MAX_TIMESTAMP)) * 1_000)  # below 0, Kafka takes them for something else
        found = await self._consumer.offsets_for_times(dict.fromkeys(wanted, milliseconds))
        return {partition.partition: at.offset for partition, at in found.items() if at is not None}

    def _initial_position(self, partition: int, beginning: int, end: int) -> int:
        if self._start == "beginning":
            return beginning
        if isinstance(self._start, str | float):
            return end  # nothing was written since
        wanted = self._start_offset(partition)
        return wanted if beginning <= wanted <= end else beginning

    def _start_offset(self, partition: int) -> int:
        """The offset to begin with, where one is given; else -1."""
        return self._start.get(partition, -1) if isinstance(self._start, Mapping) else -1

    def at_end(self) -> bool:
        """Whether everything up to `ends` has been handed out."""
        return all(self._positions.get(partition, 0) >= end for partition, end in self.ends.items())

    def position(self, partition: int) -> int:
        """The offset before which everything has been handed out, and the batch that it came in is done with."""
        return self._positions.get(partition, 0)

    def lag(self) -> int:
        """How many offsets there are between what has been handed out and the end, as the broker said it last."""
        ends = {n: self._consumer.highwater(TopicPartition(self.topic, n)) or self.ends[n] for n in self.partitions}
        return sum(max(0, end - self.position(number)) for number, end in ends.items())

    async def __aiter__(self) -> AsyncIterator[list[Record]]:
        """Batches, never empty, in offset order within each partition."""
        while True:
            if records := await self._poll():
                yield records
            await self._note_positions()

    async def polls(self) -> AsyncIterator[list[Record]]:
        """Batches, and an empty one when nothing came for a second; `position` is behind the batch already."""
        while True:
            records = await self._poll()
            await self._note_positions()
            yield records

    async def read_to_end(self, *, within: float | None = None) -> AsyncGenerator[list[Record]]:
        """Batches up to `ends`, then no more.

        Raises:
            UnavailableError: They did not come in so many seconds.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        while not self.at_end():
            if within is not None and loop.time() - began > within:
                raise UnavailableError(f"topic {self.topic} was not read to its end within {within:g} s")
            records = [record for record in await self._poll() if record.offset < self.ends[record.partition]]
            if records:
                yield records
            await self._note_positions()

    async def _poll(self) -> list[Record]:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            batches = await self._consumer.getmany(timeout_ms=POLL_TIMEOUT_MS, max_records=MAX_POLL_RECORDS)
        except OffsetOutOfRangeError as error:
            await self._reset_position(error)
            return []
        except KafkaError as error:
            raise self._translate(error) from error
        self._note_activity(loop.time() - began)
        records = [Record.of(raw) for raws in batches.values() for raw in raws]
        for record in records:
            if record.undecodable is not None:
                self._on_undecodable(record)
        return [record for record in records if record.undecodable is None]

    async def _reset_position(self, error: OffsetOutOfRangeError) -> None:
        """Go on at the beginning of a partition whose beginning has moved truncated what was read.

        Raises:
            LogTruncatedError: Its end has moved before what was read.
        """
        wanted: list[TopicPartition] = list(error.args[0])
        try:
            beginnings = await self._consumer.beginning_offsets(wanted)
            ends = await self._consumer.end_offsets(wanted)
        except KafkaError as failure:
            raise self._translate(failure) from failure
        for at in wanted:
            position = await self._consumer.position(at)
            if position > ends[at]:
                raise LogTruncatedError(
                    f"topic {self.topic} was truncated: partition {at.partition} ends at {ends[at]}, "
                    f"and was read up to {position}"
                )
            if position < beginnings[at]:
                log.warning(
                    "topic %s partition %d begins at %d now: %d records were deleted before they were read",
                    self.topic,
                    at.partition,
                    beginnings[at],
                    beginnings[at] - position,
                )
                self._consumer.seek(at, beginnings[at])

    def stalled_partitions(self) -> frozenset[int]:
        """Partitions of which the broker says nothing: aiokafka tries again for ever, without a word to us."""
        return frozenset(number for number, waited in self._waited.items() if waited > STALLED_AFTER)

    def _note_activity(self, waited: float) -> None:
        for number in self.partitions:
            told = self._consumer.last_poll_timestamp(TopicPartition(self.topic, number))
            self._waited[number] = (
                self._waited.get(number, 0.0) + waited if told == self._last_heard.get(number) else 0.0
            )
            self._last_heard[number] = told

    async def _note_positions(self) -> None:
        """Positions, not record offsets: transaction markers and compaction leave gaps before an end."""
        for number in self.partitions:
            self._positions[number] = await self._consumer.position(TopicPartition(self.topic, number))

    def _translate(self, error: KafkaError) -> PoiseError:
        if isinstance(error, UnknownTopicOrPartitionError):
            return MissingTopicError(f"topic {self.topic} does not exist: create the topics with `poise topics apply`")
        passes = error.retriable or isinstance(error, KafkaTimeoutError | UnknownError)
        return (UnavailableError if passes else SetupError)(f"topic {self.topic} cannot be read: {error!r}")


async def read_all(stream: LogStream, *, within: float) -> list[Record]:
    """Everything from where the stream starts to its ends: of topics of which little is kept.

    Raises:
        UnavailableError: The broker did not hand it out in `within` seconds.
    """
    return [record async for batch in stream.read_to_end(within=within) for record in batch]
