"""Administer Kafka: create and check topics, describe them, and read a group's committed offsets."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError

from poise.contracts.topics import CATALOGUE, Topic
from poise.errors import MissingTopicError, SetupError, UnavailableError
from poise.kafka.connection import Connection
from poise.kafka.group_state import GroupState
from poise.kafka.offset_commits import decode_commit
from poise.kafka.offset_tracker import Commit
from poise.kafka.patches import offset_fetch
from poise.kafka.retriable import is_retriable
from poise.kafka.shielded import shielded_stop
from poise.kafka.topic_identities import TopicMetadata
from poise.kafka.topic_lookup import TopicLookup
from poise.kafka.topic_metadata_request import TopicMetadataRequest
from poise.text.error_text import error_message

_TOPIC_EXISTS: Final = 36
_ATTEMPTS: Final = 10
_RETRY_BACKOFF: Final = 0.1
_CREATE_TIMEOUT: Final = 10.0
_SIZE_LIMITS: Final = ("max.message.bytes", "segment.bytes")
"""The settings that bound a record: a batch must also fit a segment."""
DEFAULT_REPLICATION: Final = 3
MIN_INSYNC_REPLICAS: Final = 2
"""Of three or more replicas, how many must have a record before it is acknowledged: one broker can then be lost."""
REQUEST_TIMEOUT: Final = 10.0
"""Seconds for a request to the broker, retries included."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TopicState:
    """A topic of the catalog compared with the broker's."""

    topic: Topic
    partitions: int | None
    """Number of partitions; None = the topic does not exist."""
    differences: tuple[str, ...] = ()
    """Descriptions of what differs; empty = the topic is as the catalog says."""


def topic_config(topic: Topic, replication: int = 1) -> dict[str, str]:
    """Return a topic's configuration for a replication factor."""
    retention = "-1" if topic.retention is None else str(round(topic.retention * 1_000))
    common = {"retention.ms": retention, "max.message.bytes": str(topic.max_bytes)}
    if replication >= DEFAULT_REPLICATION:
        common["min.insync.replicas"] = str(MIN_INSYNC_REPLICAS)
    if topic.retention_bytes is not None:
        common["retention.bytes"] = str(topic.retention_bytes)
    if topic.segment is not None:
        common["segment.bytes"] = str(topic.segment)
    if topic.compacted:
        return {"cleanup.policy": "compact", "delete.retention.ms": str(7 * 24 * 3_600_000), **common}
    return {"cleanup.policy": "delete", **common}


class KafkaAdmin:
    """An administrative client; `async with KafkaAdmin(Connection.of(settings)) as admin`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._client = AIOKafkaAdminClient(**connection.client_options())
        offset_fetch.install(self._client._client)  # noqa: SLF001 - not public
        self._partitions: dict[str, int] = {}
        self._replication: dict[str, int] = {}
        self._lookup = TopicLookup(self._partition_counts)

    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            SetupError: No broker answers at the address, or none accepts the connection; the message says why.
        """
        try:
            await self._client.start()
            await self.describe(())  # connects to the advertised addresses, not to the bootstrap addresses
        except (KafkaError, UnavailableError) as error:
            await shielded_stop(self._client.close())
            raise await self._connection.connect_error() from error
        return self

    async def unreachable_brokers(self) -> list[str]:
        """Return a message for each broker that cannot be reached at its advertised address, with what to correct."""
        brokers = self._client._client.cluster.brokers()  # noqa: SLF001 - the client's cached metadata
        known = {broker.nodeId: (broker.host, broker.port) for broker in brokers if isinstance(broker.nodeId, int)}
        return await self._connection.unreachable_brokers(known)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Disconnect."""
        await shielded_stop(self._client.close())

    async def partitions(self, topic: str) -> int | None:
        """Return a topic's number of partitions; None = it does not exist.

        The number is cached. The broker is asked about an unknown topic, which may have been created a moment ago.

        Raises:
            UnavailableError: The broker does not answer.
        """
        if topic not in self._partitions and (found := await self._lookup.get(topic)) is not None:
            self._partitions[topic] = found
        return self._partitions.get(topic)

    async def list_topics(self) -> Mapping[str, int]:
        """Return all topics and their numbers of partitions, as the broker has them now."""
        topics = await self._request(self._client.describe_topics)
        self._partitions = {item["topic"]: len(item["partitions"]) for item in topics}
        self._replication = {
            item["topic"]: min(len(partition["replicas"]) for partition in item["partitions"]) for item in topics
        }
        return self._partitions

    async def describe(self, topics: Collection[str]) -> Mapping[str, TopicMetadata]:
        """Return the metadata of those of the topics that exist, and of all topics whose partitions are cached.

        Raises:
            UnavailableError: The broker does not answer.
        """
        found = await self._fetch_metadata({*topics, *self._partitions})
        self._partitions = {name: topic.partitions for name, topic in found.items()}
        return found

    async def _partition_counts(self, names: Collection[str]) -> Mapping[str, int]:
        return {name: topic.partitions for name, topic in (await self._fetch_metadata(names)).items()}

    async def _fetch_metadata(self, names: Collection[str]) -> dict[str, TopicMetadata]:
        request = TopicMetadataRequest(names)
        response: Any = await self._request(partial(self._client._send_request, request))  # noqa: SLF001 - the public method creates topics
        return dict(response.topics())

    async def _request(self, call: Callable[[], Awaitable[T]]) -> T:
        """Send a request, with retries: aiokafka chooses a random broker, which may be dead and still listed."""
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT):
                for _ in range(_ATTEMPTS - 1):
                    try:
                        return await call()
                    except KafkaError as error:
                        if not is_retriable(error):
                            raise
                        await asyncio.sleep(_RETRY_BACKOFF)
                return await call()
        except (KafkaError, TimeoutError) as error:
            raise UnavailableError(f"the broker does not answer: {error_message(error, 'timed out')}") from error

    async def committed_offsets(
        self, group: str, partitions: Collection[TopicPartition]
    ) -> dict[TopicPartition, Commit]:
        """Return a group's commits, for those of the partitions that have one.

        Raises:
            UnavailableError: The broker does not answer.
        """
        call = partial(self._client.list_consumer_group_offsets, group, partitions=list(partitions))
        found = await self._request(call)
        return {
            partition: decode_commit(commit.offset, commit.metadata or "")
            for partition, commit in found.items()
            if commit.offset >= 0
        }

    async def group_state(self, group: str, partitions: Collection[TopicPartition]) -> GroupState:
        """Return a group's commits for some partitions, and the ids of their topics.

        Raises:
            UnavailableError: The broker does not answer.
        """
        topics = {partition.topic for partition in partitions}
        committed, found = await asyncio.gather(self.committed_offsets(group, partitions), self.describe(topics))
        return GroupState(committed, {topic: found[topic].id for topic in topics & found.keys()})

    async def delete_records_before(self, topic: str, offsets: Mapping[int, int]) -> None:
        """Delete the records before an offset, by partition.

        Raises:
            UnavailableError: The broker did not delete them.
        """
        before = {TopicPartition(topic, number): RecordsToDelete(offset) for number, offset in offsets.items()}
        await self._request(partial(self._client.delete_records, before))

    async def topic_id(self, topic: str) -> str:
        """Return Kafka's id of a topic, which changes when the topic is deleted and created again.

        Raises:
            MissingTopicError: There is no such topic.
            UnavailableError: The broker does not answer.
        """
        return (await self.metadata(topic)).id

    async def metadata(self, topic: str) -> TopicMetadata:
        """Return a topic's current metadata.

        Raises:
            MissingTopicError: There is no such topic.
            UnavailableError: The broker does not answer.
        """
        found = (await self._fetch_metadata([topic])).get(topic)
        if found is None:
            raise MissingTopicError(f"topic {topic} does not exist: create the topics with `poise topics apply`")
        return found

    async def check(self, extra_topics: Sequence[Topic] = ()) -> list[TopicState]:
        """Compare the broker's topics with the catalog, and with `extra_topics`."""
        present = await self.list_topics()
        topics = (*CATALOGUE.values(), *extra_topics)
        wanted = [topic for topic in topics if topic.name in present]
        configured = await self._configurations(topic.name for topic in wanted)
        return [
            TopicState(topic, present.get(topic.name), self._differences(topic, configured[topic.name]))
            if topic.name in present
            else TopicState(topic, None, ("missing",))
            for topic in topics
        ]

    async def apply(self, replication: int | None = None, extra_topics: Sequence[Topic] = ()) -> list[TopicState]:
        """Create missing topics and correct those that differ, except for numbers of partitions, which place the keys.

        Args:
            replication: Replicas of each partition; None = three, or one for each broker if there are fewer.
            extra_topics: Topics besides those of the catalog.

        Returns:
            The topics as they were before the call.

        Raises:
            SetupError: The broker refused.
        """
        before = await self.check(extra_topics)
        await self.create([state.topic for state in before if state.partitions is None], replication)
        await self._configure([state.topic for state in before if state.partitions is not None and state.differences])
        return before

    async def create(self, topics: Sequence[Topic], replication: int | None = None) -> None:
        """Create topics. A topic that exists already is not changed.

        Raises:
            SetupError: The broker refused, or does not list the new topics in time.
            UnavailableError: The broker does not answer.
        """
        if not topics:
            return
        if replication is None:
            replication = min(DEFAULT_REPLICATION, len((await self._request(self._client.describe_cluster))["brokers"]))
        new = [
            NewTopic(topic.name, topic.partitions, replication, topic_configs=topic_config(topic, replication))
            for topic in topics
        ]
        response: Any = await self._request(partial(self._client.create_topics, new))
        refused = [
            f"{name}: {message or code}"
            for name, code, message, *_ in response.topic_errors
            if code not in {0, _TOPIC_EXISTS}
        ]
        if refused:
            raise SetupError(f"the broker refused topics: {'; '.join(refused)}")
        try:
            async with asyncio.timeout(_CREATE_TIMEOUT):
                # The broker does not signal that its metadata has spread.
                while not {topic.name for topic in topics} <= (await self.list_topics()).keys():  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        except TimeoutError as error:
            raise SetupError(
                f"the broker does not list the new topics after {_CREATE_TIMEOUT:g} s: try again"
            ) from error

    async def _configure(self, topics: Sequence[Topic]) -> None:
        for topic in topics:
            wanted = topic_config(topic, self._replication[topic.name])
            resource = ConfigResource(ConfigResourceType.TOPIC, topic.name, wanted)
            await self._request(partial(self._client.alter_configs, [resource]))

    async def record_limits(self, topics: Collection[str]) -> Mapping[str, int]:
        """Return the size limit of a record, in bytes, for each topic whose configuration this process may read.

        Raises:
            UnavailableError: The broker does not answer.
        """
        found = await self._configurations(topics, _SIZE_LIMITS)
        return {name: min(int(configured[limit]) for limit in _SIZE_LIMITS) for name, configured in found.items()}

    async def _configurations(self, names: Iterable[str], settings: Collection[str] = ()) -> dict[str, dict[str, str]]:
        """Return the configuration of topics, or some of its settings; topics that may not be read are absent."""
        resources = [ConfigResource(ConfigResourceType.TOPIC, name, dict.fromkeys(settings)) for name in names]
        if not resources:
            return {}
        found: dict[str, dict[str, str]] = {}
        responses: list[Any] = await self._request(partial(self._client.describe_configs, resources))
        for response in responses:
            for error_code, _, _, name, entries in response.resources:
                if not error_code:
                    found[name] = {entry[0]: entry[1] for entry in entries}
        return found

    def _differences(self, topic: Topic, configured: Mapping[str, str]) -> tuple[str, ...]:
        found = [
            f"{name} is {configured.get(name)}, not {value}"
            for name, value in topic_config(topic, self._replication[topic.name]).items()
            if configured.get(name) != value
        ]
        if (partitions := self._partitions[topic.name]) != topic.partitions:
            found.insert(0, f"{partitions} partitions, not {topic.partitions}")
        return tuple(found)
