"""Logs: topics read whole, without a consumer group."""

from collections.abc import Sequence

from poise.errors import MissingTopicError
from poise.kafka.log_lookup import LogLookup
from poise.kafka.log_reader import LogAccess
from poise.kafka.log_stream import LogStream, Start
from poise.kafka.partitioner import partition_for
from poise.kafka.record import Record


class Logs:
    """Reads topics for one process.

    Args:
        access: How the broker is reached, and what a `LogReader` is given.
    """

    def __init__(self, access: LogAccess) -> None:
        self.access = access
        self.lookups = LogLookup(self.open_stream, access.admin)

    def open_stream(
        self,
        topic: str,
        *,
        start: Start = "beginning",
        partitions: Sequence[int] | None = None,
        end_time: float | None = None,
    ) -> LogStream:
        """Open a stream of a topic's records; see `LogStream`."""
        access = self.access
        return LogStream(
            access.connection,
            topic,
            start=start,
            partitions=partitions,
            end_time=end_time,
            on_undecodable=access.on_undecodable,
        )

    async def read_key(self, topic: str, key: str, *, since: float | None = None) -> list[Record]:
        """Return all records of a key that are in the topic now, oldest first; see `LogLookup.read_key`.

        Args:
            topic: A topic that is partitioned by its key.
            key: The key.
            since: Unix seconds: start at the first record written then or later.
        """
        return await self.lookups.read_key(topic, key, start="beginning" if since is None else float(since))

    async def read_topic(self, topic: str) -> list[Record]:
        """Return every record that is in a small topic now; see `LogLookup.matching`."""
        return await self.lookups.matching(topic, lambda _: True)

    async def partition_of(self, topic: str, key: bytes) -> int:
        """Return the partition of a key.

        Raises:
            MissingTopicError: The topic does not exist.
        """
        partitions = await self.access.admin.partitions(topic)
        if partitions is None:
            raise MissingTopicError(f"topic {topic} does not exist: create the topics with `poise topics apply`")
        return partition_for(key, partitions)

    async def topic_id(self, topic: str) -> str:
        """Return Kafka's id of a topic, which changes when the topic is deleted and recreated."""
        return await self.access.admin.topic_id(topic)
