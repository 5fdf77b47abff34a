"""End offsets of a topic's partitions, for any number of concurrent callers."""

from collections.abc import Mapping
from types import TracebackType
from typing import Final, Literal, Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from poise.errors import SetupError, UnavailableError
from poise.kafka.coalesced_read import CoalescedRead
from poise.kafka.connection import Connection
from poise.kafka.shielded import shielded_stop

REQUEST_TIMEOUT_MS: Final = 2_000
METADATA_MAX_AGE_MS: Final = 1_000
"""How soon added or removed partitions are noticed."""


class EndOffsets:
    """The end offsets of a topic; `async with EndOffsets(connection, topic) as ends: await ends.fetch()`.

    Uses a consumer that fetches no records: otherwise each request would queue behind a fetch that waits for data.

    Args:
        connection: How to connect to the broker.
        topic: The topic's name.
        isolation: "read_committed" ends at the first open transaction, "read_uncommitted" at the last record.

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
            await self._consumer._client._wait_on_metadata(self._topic)  # noqa: SLF001 - public only with a subscription
        except KafkaError as error:
            await shielded_stop(self._consumer.stop())
            raise SetupError(f"topic {self._topic} cannot be read: {error}") from error
        except BaseException:
            await shielded_stop(self._consumer.stop())
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Disconnect."""
        await shielded_stop(self._consumer.stop())

    async def fetch(self) -> Mapping[int, int]:
        """Return, by partition, the offset after the last record that was acknowledged before this call.

        Raises:
            UnavailableError: The broker does not answer.
        """
        return await self._reads.read()

    async def _read(self) -> Mapping[int, int]:
        try:
            known = await self._consumer._client._wait_on_metadata(self._topic)  # noqa: SLF001 - as above
            found = await self._consumer.end_offsets([TopicPartition(self._topic, number) for number in sorted(known)])
        except KafkaError as error:
            raise UnavailableError(f"the broker does not return the end offsets of {self._topic}: {error}") from error
        return {partition.partition: offset for partition, offset in found.items()}
