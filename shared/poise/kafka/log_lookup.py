"""Look-ups: records that stand in a log now, found by reading it.

There is no index of a log: what is looked for is found by reading, and reading costs time and memory that somebody
else wants too. So each look-up streams, keeps only what matches, and is bounded in time and in what it keeps.
"""

from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from poise.errors import MissingTopicError, TerminalError
from poise.kafka.admin import KafkaAdmin
from poise.kafka.log_stream import LogStream, Start
from poise.kafka.partitioner import partition_for
from poise.kafka.record import Position, Record

LOOKUP_TIMEOUT: Final = 30.0
"""Seconds that a look-up may take, where nothing else is said."""
MAX_RESULT_BYTES: Final = 64 * 1024 * 1024
"""Bytes of bodies that a look-up keeps."""


@dataclass(frozen=True, slots=True)
class Window:
    """A part of a log, by the time at which records were written."""

    start: Start
    end: float | None = None
    """Unix seconds; None = to the end of the log, or to where the window before this one began."""


class LogLookup:
    """Looks into logs.

    Args:
        follow: Opens a log.
        admin: Knows how many partitions a topic has.
        within: Seconds for each look-up.
        max_bytes: Bytes of bodies that one keeps.
    """

    def __init__(
        self,
        open_stream: Callable[..., LogStream],
        admin: KafkaAdmin,
        *,
        timeout: float = LOOKUP_TIMEOUT,
        max_bytes: int = MAX_RESULT_BYTES,
    ) -> None:
        self._open_stream = open_stream
        self._admin = admin
        self._timeout = timeout
        self._max_bytes = max_bytes

    async def scan(
        self, topic: str, *, start: Start = "beginning", partitions: Sequence[int] | None = None
    ) -> AsyncGenerator[Record]:
        """Each record that is in the topic now, one after another; order holds within a partition.

        Raises:
            UnavailableError: The broker does not hand them out in time.
            MissingTopicError: There is no such topic.
        """
        stream = self._open_stream(topic, start=start, partitions=partitions)
        async with stream, aclosing(stream.read_to_end(within=self._timeout)) as batches:
            async for batch in batches:
                for record in batch:
                    yield record

    async def matching(
        self,
        topic: str,
        matches: Callable[[Record], bool],
        *,
        start: Start = "beginning",
        partitions: Sequence[int] | None = None,
    ) -> list[Record]:
        """The records that match, in the log's order.

        Raises:
            UnavailableError: The broker does not hand them out in time.
            TerminalError: They are more bytes than a look-up keeps.
            MissingTopicError: There is no such topic.
        """
        found: list[Record] = []
        size = 0
        async with aclosing(self.scan(topic, start=start, partitions=partitions)) as records:
            async for record in records:
                if matches(record):
                    found.append(record)
                    size += len(record.value or b"")
                    if size > self._max_bytes:
                        told = f"what is looked for in {topic} is more than {self._max_bytes // 2**20} MiB"
                        raise TerminalError(f"{told}: narrow it, or read the topic with a client of your own")
        return found

    async def read_key(self, topic: str, key: str, *, start: Start = "beginning") -> list[Record]:
        """All records of a key, oldest first; the errors are those of `matching`."""
        raw = key.encode()
        partition = await self._partition_of(topic, raw)
        return await self.matching(topic, lambda record: record.key == raw, start=start, partitions=[partition])

    async def last_of_key(self, topic: str, key: str, windows: Iterable[Window]) -> Record | None:
        """The last record of a key in the first of some windows that has one; one after another is looked through.

        Nothing but that record is kept. The errors are those of `scan`.
        """
        raw, end = key.encode(), None
        partition = await self._partition_of(topic, raw)
        for window in windows:
            stream = self._open_stream(topic, start=window.start, partitions=[partition], end_time=window.end)
            async with stream:
                first = stream.position(partition)
                if end is not None:
                    stream.ends[partition] = min(end, stream.ends[partition])
                found: Record | None = None
                async with aclosing(stream.read_to_end(within=self._timeout)) as batches:
                    async for batch in batches:
                        found = next((record for record in reversed(batch) if record.key == raw), found)
            if found is not None:
                return found
            end = first if window.end is None else None
        return None

    async def read_at(self, topic: str, positions: Iterable[Position]) -> dict[Position, Record]:
        """The records that stand at some positions; one that is not there any more is absent."""
        wanted: dict[int, set[int]] = {}
        for position in positions:
            wanted.setdefault(position.partition, set()).add(position.offset)
        found: dict[Position, Record] = {}
        for partition, offsets in wanted.items():
            start = {partition: min(offsets)}
            async with self._open_stream(topic, start=start, partitions=[partition]) as stream:
                stream.ends[partition] = min(max(offsets) + 1, stream.ends[partition])
                async with aclosing(stream.read_to_end(within=self._timeout)) as batches:
                    async for batch in batches:
                        found |= {one.position: one for one in batch if one.offset in offsets}
        return found

    async def _partition_of(self, topic: str, key: bytes) -> int:
        partitions = await self._admin.partitions(topic)
        if partitions is None:
            raise MissingTopicError(f"topic {topic} does not exist: create the topics with `poise topics apply`")
        return partition_for(key, partitions)
