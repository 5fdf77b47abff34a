"""Kafka's administration: the table of topics applied and checked, topic ids, and which topics there are."""

import asyncio
import time
from collections.abc import Awaitable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError

from poise.contracts.topics import CATALOGUE, Topic
from poise.errors import SetupError, UnavailableError
from poise.messaging.connection import Connection
from poise.messaging.offsets import Commit
from poise.messaging.topic_ids import TopicIdRequest

_REFRESH_AFTER: Final = 1.0
_TOPIC_EXISTS: Final = 36
_CREATED_WITHIN: Final = 10.0
USUAL_REPLICATION: Final = 3
ANSWERS_WITHIN: Final = 10.0
"""Seconds after which a question to the broker is given up."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TopicState:
    """How a topic of the table stands on the broker."""

    topic: Topic
    partitions: int | None
    """None: it does not exist."""
    differences: tuple[str, ...] = ()
    """In words; empty when it is as the table says."""


def settings_of(topic: Topic) -> dict[str, str]:
    """The topic's configuration in Kafka's words."""
    keep = "-1" if topic.keep is None else str(round(topic.keep * 1_000))
    common = {"retention.ms": keep, "max.message.bytes": str(topic.max_bytes)}
    if topic.compacted:
        return {"cleanup.policy": "compact", "delete.retention.ms": str(7 * 24 * 3_600_000), **common}
    return {"cleanup.policy": "delete", **common}


class Admin:
    """One connection for administration; `async with Admin(Connection.of(settings)) as admin`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._client = AIOKafkaAdminClient(**connection.arguments())
        self._partitions: dict[str, int] = {}
        self._read_at = -_REFRESH_AFTER
        self._refreshing = asyncio.Lock()

    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            SetupError: No broker answers at the address, or none takes us; the message says why.
        """
        try:
            await self._client.start()
        except KafkaError as error:
            await self._client.close()
            raise await self._connection.refusal() from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Disconnect."""
        await self._client.close()

    async def partitions(self, topic: str) -> int | None:
        """How many partitions a topic has; None = it does not exist.

        Cached; for an unknown one the broker is asked again, once a second at most: a topic that was made a moment ago
        is waited for, and many unknown ones cost one request.
        """
        if topic not in self._partitions:
            asked = time.monotonic()
            async with self._refreshing:
                if topic not in self._partitions and self._read_at < asked:
                    await asyncio.sleep(max(0.0, self._read_at + _REFRESH_AFTER - time.monotonic()))
                    await self.refresh()
        return self._partitions.get(topic)

    async def refresh(self) -> Mapping[str, int]:
        """Read anew which topics there are, with their numbers of partitions."""
        began = time.monotonic()
        topics = await self._asked(self._client.describe_topics())
        self._partitions = {item["topic"]: len(item["partitions"]) for item in topics}
        self._read_at = began
        return self._partitions

    async def _asked(self, request: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(ANSWERS_WITHIN):
                return await request
        except (KafkaError, TimeoutError) as error:
            raise UnavailableError(f"the broker does not answer: {error or 'timed out'}") from error

    async def committed(self, group: str, partitions: Collection[TopicPartition]) -> dict[TopicPartition, Commit]:
        """What a group has committed, of those partitions of which it has committed something.

        Raises:
            UnavailableError: The broker does not answer.
        """
        found = await self._asked(self._client.list_consumer_group_offsets(group, partitions=list(partitions)))
        return {at: Commit(kept.offset, kept.metadata or "") for at, kept in found.items() if kept.offset >= 0}

    async def delete_before(self, topic: str, offsets: Mapping[int, int]) -> None:
        """Have the broker forget what stands before an offset, by partition.

        Raises:
            UnavailableError: The broker does not do it.
        """
        cut = {TopicPartition(topic, number): RecordsToDelete(offset) for number, offset in offsets.items()}
        await self._asked(self._client.delete_records(cut))

    async def topic_id(self, topic: str) -> str:
        """Kafka's id of a topic, which differs when the topic was deleted and made again.

        Raises:
            SetupError: There is no such topic.
            UnavailableError: The broker does not answer.
        """
        asking = self._client._send_request(TopicIdRequest(topic))  # noqa: SLF001 - has no public way
        response: Any = await self._asked(asking)
        for error_code, name, topic_id in response.topics():
            if name == topic and not error_code:
                return str(topic_id)
        raise SetupError(f"topic {topic} does not exist: create the topics with `poise topics apply`")

    async def check(self) -> list[TopicState]:
        """Compare the broker's topics with the table."""
        present = await self.refresh()
        wanted = [topic for topic in CATALOGUE.values() if topic.name in present]
        configured = await self._configurations(topic.name for topic in wanted)
        return [
            TopicState(topic, present.get(topic.name), _differences(topic, present[topic.name], configured[topic.name]))
            if topic.name in present
            else TopicState(topic, None, ("missing",))
            for topic in CATALOGUE.values()
        ]

    async def apply(self, replication: int | None = None) -> list[TopicState]:
        """Create what is missing and correct what differs, except numbers of partitions, which key the data.

        Args:
            replication: Copies of each partition; None = three, or as many as there are brokers.

        Returns:
            The topics as they were before.

        Raises:
            SetupError: The broker refused.
        """
        before = await self.check()
        await self._create([state.topic for state in before if state.partitions is None], replication)
        await self._configure([state.topic for state in before if state.partitions is not None and state.differences])
        return before

    async def _create(self, topics: Sequence[Topic], replication: int | None) -> None:
        if not topics:
            return
        if replication is None:
            replication = min(USUAL_REPLICATION, len((await self._client.describe_cluster())["brokers"]))
        response: Any = await self._client.create_topics(
            [NewTopic(topic.name, topic.partitions, replication, topic_configs=settings_of(topic)) for topic in topics]
        )
        refused = [
            f"{name}: {message or code}"
            for name, code, message, *_ in response.topic_errors
            if code not in {0, _TOPIC_EXISTS}
        ]
        if refused:
            raise SetupError(f"the broker refused topics: {'; '.join(refused)}")
        async with asyncio.timeout(_CREATED_WITHIN):
            # The broker tells nobody when its metadata has spread.
            while not {topic.name for topic in topics} <= (await self.refresh()).keys():  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    async def _configure(self, topics: Sequence[Topic]) -> None:
        for topic in topics:
            await self._client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic.name, settings_of(topic))])

    async def _configurations(self, names: Iterable[str]) -> dict[str, dict[str, str]]:
        resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
        if not resources:
            return {}
        found: dict[str, dict[str, str]] = {}
        responses: list[Any] = await self._client.describe_configs(resources)
        for response in responses:
            for _, _, _, name, entries in response.resources:
                found[name] = {entry[0]: entry[1] for entry in entries}
        return found


def _differences(topic: Topic, partitions: int, configured: Mapping[str, str]) -> tuple[str, ...]:
    found = [
        f"{name} is {configured.get(name)}, not {value}"
        for name, value in settings_of(topic).items()
        if configured.get(name) != value
    ]
    if partitions != topic.partitions:
        found.insert(0, f"{partitions} partitions, not {topic.partitions}")
    return tuple(found)
