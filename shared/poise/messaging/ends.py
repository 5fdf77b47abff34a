"""Ends: how far a topic's partitions reach now, to be asked at any time and by many at once."""

import asyncio
from collections.abc import Mapping
from types import TracebackType
from typing import Final, Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from poise.errors import SetupError, UnavailableError
from poise.messaging.connection import Connection

ANSWERS_WITHIN_MS: Final = 2_000


class Ends:
    """The end offsets of a topic; `async with Ends(connection, topic) as ends: await ends.now()`.

    A consumer of its own, which reads nothing: on one that fetches, the question would queue behind a fetch that waits
    for data.

    Raises:
        SetupError: No broker answers, or there is no such topic.
    """

    def __init__(self, connection: Connection, topic: str) -> None:
        self._topic = topic
        self._consumer = AIOKafkaConsumer(
            **{**connection.arguments(), "request_timeout_ms": ANSWERS_WITHIN_MS},
            enable_auto_commit=False,
            isolation_level="read_committed",
        )
        self._partitions: list[TopicPartition] = []
        self._turn = asyncio.Lock()
        self._begun = 0
        self._ended = 0
        self._ends: Mapping[int, int] = {}

    async def __aenter__(self) -> Self:
        """Connect."""
        try:
            await self._consumer.start()
            known = await self._consumer._client._wait_on_metadata(self._topic)  # noqa: SLF001 - the public way needs a subscription
        except KafkaError as error:
            await self._consumer.stop()
            raise SetupError(f"topic {self._topic} cannot be read: {error}") from error
        except BaseException:
            await self._consumer.stop()
            raise
        self._partitions = [TopicPartition(self._topic, number) for number in sorted(known)]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Disconnect."""
        await self._consumer.stop()

    async def now(self) -> Mapping[int, int]:
        """By partition, the offset after the last record that the broker had acknowledged when this was called.

        Raises:
            UnavailableError: The broker does not answer.
        """
        # A question on its way when I came may have been answered before I came: I need the answer to one that begins
        # from here on. All who come while it is on its way share the next one.
        mine = self._begun + 1
        async with self._turn:
            if self._ended < mine:
                self._begun += 1
                try:
                    found = await self._consumer.end_offsets(self._partitions)
                except KafkaError as error:
                    raise UnavailableError(f"the broker does not say how far {self._topic} reaches: {error}") from error
                self._ends = {partition.partition: offset for partition, offset in found.items()}
                self._ended = self._begun
            return self._ends
