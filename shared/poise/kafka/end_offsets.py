"""Ends: how far a topic's partitions reach now, to be asked at any time and by many at once."""

from collections.abc import Mapping
from types import TracebackType
from typing import Final, Literal, Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from poise.errors import SetupError, UnavailableError
from poise.kafka.coalesced_read import CoalescedRead
from poise.kafka.connection import Connection

REQUEST_TIMEOUT_MS: Final = 2_000
METADATA_MAX_AGE_MS: Final = 1_000
"""After which a topic that has more partitions than before, or fewer, is seen to have them."""


class EndOffsets:
    """The end offsets of a topic; `async with Ends(connection, topic) as ends: await ends.fetch()`.

    A consumer of its own, which reads nothing: on one that fetches, the question would queue behind a fetch that waits
    for data.

    Args:
        connection: How the broker is connected to.
        topic: The topic's name.
        isolation: Whether the end is where the first open transaction begins, or that of all that was acknowledged.

    Raises:
        SetupError: No broker answers, or there is no such topic.
    """

    def __init__(
        self,
        connection: Connection,
        topic: str,
        isolation: Literal["read_committed", "read_uncommitted"] = "read_committed",
    ) -> None:
        self._topic = topic
        self._consumer = AIOKafkaConsumer(
            **{
                **connection.client_options(),
                "request_timeout_ms": REQUEST_TIMEOUT_MS,
                "metadata_max_age_ms": METADATA_MAX_AGE_MS,
            },
            enable_auto_commit=False,
            isolation_level=isolation,
        )
        self._reads = CoalescedRead(self._read)

    async def __aenter__(self) -> Self:
        """Connect."""
        try:
            await self._consumer.start()
            await self._consumer._client._wait_on_metadata(self._topic)  # noqa: SLF001 - the public way needs a subscription
        except KafkaError as error:
            await self._consumer.stop()
            raise SetupError(f"topic {self._topic} cannot be read: {error}") from error
        except BaseException:
            await self._consumer.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Disconnect."""
        await self._consumer.stop()

    async def fetch(self) -> Mapping[int, int]:
        """By partition, the offset after the last record that the broker had acknowledged when this was called.

        Raises:
            UnavailableError: The broker does not answer.
        """
        return await self._reads.read()

    async def _read(self) -> Mapping[int, int]:
        try:
            known = await self._consumer._client._wait_on_metadata(self._topic)  # noqa: SLF001 - as above
            found = await self._consumer.end_offsets([TopicPartition(self._topic, number) for number in sorted(known)])
        except KafkaError as error:
            raise UnavailableError(f"the broker does not say how far {self._topic} reaches: {error}") from error
        return {partition.partition: offset for partition, offset in found.items()}
