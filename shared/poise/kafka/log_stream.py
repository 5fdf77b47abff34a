"""A log stream: reads a whole topic by manual assignment, without a group, from a given position.

A `LogStream` is one connection and ends with its first error. A `LogReader` reads for as long as a process runs.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from types import TracebackType
from typing import Final, Literal, Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError, UnknownTopicOrPartitionError

from poise.errors import MissingTopicError, PoiseError, SetupError, UnavailableError
from poise.kafka.connection import Connection
from poise.kafka.patches import lenient_fetch
from poise.kafka.record import Record
from poise.kafka.retriable import is_retriable
from poise.kafka.shielded import shielded_start, shielded_stop
from poise.kafka.undecodable import OnUndecodable, log_undecodable

log = logging.getLogger(__name__)

POLL_TIMEOUT_MS: Final = 1_000
MAX_POLL_RECORDS: Final = 2_000
MAX_TIMESTAMP: Final = 9e15
"""The latest time that Kafka can represent, unix seconds."""
STALLED_AFTER: Final = 10.0
"""Seconds of polling after which a partition counts as stalled if the broker has not answered a fetch of it, not even
with an empty response."""

Start = Mapping[int, int] | float | Literal["beginning", "end"]
"""Next offsets by partition, a time (unix seconds), or an end of the log."""


class LogTruncatedError(UnavailableError):
    """A log ends before the reader's position: it was truncated, or restored from a copy."""


class LogStream:
    """Reads every partition of a topic, or some; `async with LogStream(…) as log: async for batch in log: …`.

    Args:
        connection: How to connect to the broker.
        topic: The topic to read.
        start: The next offset by partition (one that is absent or out of range becomes the beginning); or a time, unix
            seconds, from which to read; or "beginning", or "end".
        partitions: Which partitions; None = all.
        on_undecodable: Receives each batch that cannot be decoded; the stream skips it.
        end_time: Unix seconds: `ends` are the first records written then or later; None = the ends of the log.

    Raises:
        UnavailableError: The broker does not answer or returns no records; also later, during iteration.
        LogTruncatedError: During iteration: the log ends before the position.
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
        """Where `read_to_end` stops: the end offsets when the stream was opened, or earlier."""
        self.truncated: frozenset[int] = frozenset()
        """Partitions that end before their start offset."""
        self._start = start
        self._on_undecodable = on_undecodable
        self._end_time = end_time
        self._positions: dict[int, int] = {}
        self._last_heard: dict[int, int | None] = {}  # by partition: when the broker last answered a fetch of it
        self._waited: dict[int, float] = {}  # by partition: seconds of polling since then
        lenient_fetch.install()
        self._consumer = AIOKafkaConsumer(
            **connection.client_options(),
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
        )

    async def __aenter__(self) -> Self:
        """Connect, and find the start positions and the ends."""
        try:
            await shielded_start(self._open())
        except KafkaError as error:
            await self._close()
            raise self._translate(error) from error
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Disconnect."""
        await self._close()

    async def _close(self) -> None:
        await shielded_stop(self._consumer.stop())

    async def _open(self) -> None:
        await self._consumer.start()
        await self._assign()

    async def _assign(self) -> None:
        # Also if partitions are given: asked for offsets of a topic that it does not know, the client waits 100 ms.
        known = await self._consumer._client._wait_on_metadata(self.topic)  # noqa: SLF001 - public only with a subscription
        if missing := set(self.partitions) - set(known):
            raise SetupError(
                f"topic {self.topic} has no partition {min(missing)}: it was recreated with fewer partitions"
            )
        self.partitions = self.partitions or sorted(known)
        wanted = [TopicPartition(self.topic, number) for number in self.partitions]
        # Before assigning: afterwards these requests would queue for half a second behind a fetch that waits for data.
        beginnings = await self._consumer.beginning_offsets(wanted)
        ends = await self._consumer.end_offsets(wanted)
        times = {} if not isinstance(self._start, float) else await self._offsets_for_time(wanted, self._start)
        last = {} if self._end_time is None else await self._offsets_for_time(wanted, self._end_time)
        self.ends = {p.partition: last.get(p.partition, offset) for p, offset in ends.items()}
        self.truncated = frozenset(p.partition for p in wanted if self._start_offset(p.partition) > ends[p])
        self._consumer.assign(wanted)
        for partition in wanted:
            number = partition.partition
            self._positions[number] = times.get(
                number, self._initial_position(number, beginnings[partition], ends[partition])
            )
            self._consumer.seek(partition, self._positions[number])

    async def _offsets_for_time(self, wanted: Sequence[TopicPartition], time: float) -> dict[int, int]:
        """Return the first offset written at a time or later, for each partition that has one."""
        milliseconds = round(max(0.0, min(time, MAX_TIMESTAMP)) * 1_000)  # to Kafka, negative times mean something else
        found = await self._consumer.offsets_for_times(dict.fromkeys(wanted, milliseconds))
        return {p.partition: found_at.offset for p, found_at in found.items() if found_at is not None}

    def _initial_position(self, partition: int, beginning: int, end: int) -> int:
        if self._start == "beginning":
            return beginning
        if isinstance(self._start, str | float):
            return end  # nothing was written since that time
        wanted = self._start_offset(partition)
        return wanted if beginning <= wanted <= end else beginning

    def _start_offset(self, partition: int) -> int:
        """Return the given start offset; -1 if none is given."""
        return self._start.get(partition, -1) if isinstance(self._start, Mapping) else -1

    def at_end(self) -> bool:
        """Return whether everything up to `ends` has been returned."""
        return all(self._positions.get(partition, 0) >= end for partition, end in self.ends.items())

    def position(self, partition: int) -> int:
        """Return the offset before which everything has been returned, in batches that the caller is done with."""
        return self._positions.get(partition, 0)

    def lag(self) -> int:
        """Return the number of offsets between the positions and the ends that the broker reported last."""
        ends = {n: self._consumer.highwater(TopicPartition(self.topic, n)) or self.ends[n] for n in self.partitions}
        return sum(max(0, end - self.position(number)) for number, end in ends.items())

    async def __aiter__(self) -> AsyncIterator[list[Record]]:
        """Yield batches, never empty, in offset order within each partition."""
        while True:
            if records := await self._poll():
                yield records
            await self._note_positions()

    async def polls(self) -> AsyncIterator[list[Record]]:
        """Yield batches, an empty one if nothing arrived for a second; `position` already includes the batch."""
        while True:
            records = await self._poll()
            await self._note_positions()
            yield records

    async def read_to_end(self, *, within: float | None = None) -> AsyncGenerator[list[Record]]:
        """Yield batches up to `ends`, then stop.

        Raises:
            UnavailableError: The end is not reached after `within` seconds.
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
        """Continue at the beginning of partitions whose records were deleted before they were read.

        Raises:
            LogTruncatedError: A partition ends before the position.
        """
        wanted: list[TopicPartition] = list(error.args[0])
        try:
            beginnings = await self._consumer.beginning_offsets(wanted)
            ends = await self._consumer.end_offsets(wanted)
        except KafkaError as failure:
            raise self._translate(failure) from failure
        for partition in wanted:
            position = await self._consumer.position(partition)
            if position > ends[partition]:
                raise LogTruncatedError(
                    f"topic {self.topic} was truncated: partition {partition.partition} ends at {ends[partition]}, "
                    f"but was read up to {position}"
                )
            if position < beginnings[partition]:
                log.warning(
                    "topic %s partition %d now begins at %d: %d records were deleted before they were read",
                    self.topic,
                    partition.partition,
                    beginnings[partition],
                    beginnings[partition] - position,
                )
                self._consumer.seek(partition, beginnings[partition])

    def stalled_partitions(self) -> frozenset[int]:
        """Return partitions whose fetches the broker does not answer: aiokafka retries for ever without an error."""
        return frozenset(number for number, waited in self._waited.items() if waited > STALLED_AFTER)

    def _note_activity(self, waited: float) -> None:
        for number in self.partitions:
            heard = self._consumer.last_poll_timestamp(TopicPartition(self.topic, number))
            silent = heard == self._last_heard.get(number)
            self._waited[number] = self._waited.get(number, 0.0) + waited if silent else 0.0
            self._last_heard[number] = heard

    async def _note_positions(self) -> None:
        """Note positions, not offsets of records: transaction markers and compaction leave gaps before an end."""
        for number in self.partitions:
            self._positions[number] = await self._consumer.position(TopicPartition(self.topic, number))

    def _translate(self, error: KafkaError) -> PoiseError:
        if isinstance(error, UnknownTopicOrPartitionError):
            return MissingTopicError(f"topic {self.topic} does not exist: create the topics with `poise topics apply`")
        kind = UnavailableError if is_retriable(error) else SetupError
        return kind(f"topic {self.topic} cannot be read: {error!r}")


async def read_all(stream: LogStream, *, within: float) -> list[Record]:
    """Return everything from a stream's start to its ends; for topics that hold little.

    Raises:
        UnavailableError: The broker did not return it within `within` seconds.
    """
    return [record async for batch in stream.read_to_end(within=within) for record in batch]
