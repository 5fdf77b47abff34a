"""Look-ups: find records that are in a log now, by reading it.

A log has no index, so a look-up reads it, which costs time and memory that other work needs. Each look-up therefore
streams, keeps only matching records, and is bounded in time and in bytes.
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
"""Default limit of a look-up, in seconds."""
MAX_RESULT_BYTES: Final = 64 * 1024 * 1024
"""Default limit of the values that a look-up keeps, in bytes."""


@dataclass(frozen=True, slots=True)
class Window:
    """A part of a log, by the write time of its records."""

    start: Start
    end: float | None = None
    """Unix seconds; None = to the end of the log, or to where the previous window began."""


class LogLookup:
    """Finds records in logs.

    Args:
        open_stream: Opens a stream of a log.
        admin: Returns numbers of partitions.
        timeout: Seconds for each look-up.
        max_bytes: Bytes of values that one look-up keeps.
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
        """Yield each record that is in the topic now, in order within each partition.

        Raises:
            UnavailableError: The broker does not return them in time.
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
        """Return the records that match, in the log's order.

        Raises:
            UnavailableError: The broker does not return them in time.
            TerminalError: They are larger than `max_bytes`.
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
                        limit = f"the matching records of {topic} are larger than {self._max_bytes // 2**20} MiB"
                        raise TerminalError(f"{limit}: narrow the search, or read the topic with another client")
        return found

    async def read_key(self, topic: str, key: str, *, start: Start = "beginning") -> list[Record]:
        """Return all records of a key, oldest first. Raises what `matching` raises."""
        raw = key.encode()
        partition = await self._partition_of(topic, raw)
        return await self.matching(topic, lambda record: record.key == raw, start=start, partitions=[partition])

    async def last_of_key(self, topic: str, key: str, windows: Iterable[Window]) -> Record | None:
        """Return the last record of a key, from the first of the windows that has one. Windows are read in order.

        Only that record is kept in memory. Raises what `scan` raises.
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
        """Return the records at some positions; one that was deleted is absent."""
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
