"""A cluster of three Kafka nodes, from the same jars as the embedded one."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    Array,
    CompactArray,
    CompactString,
    Int8,
    Int16,
    Int32,
    Int64,
    Schema,
    String,
    TaggedFields,
)

from poise.contracts.topics import Topic
from poise.kafka import topic_setup
from poise.kafka.admin import topic_config
from poise.settings import MeshSettings
from poise.stack import probe
from poise.stack.kafka import Kafka, KafkaNode
from poise.stack.kafka_runtime import KafkaRuntime

IDS = (1, 2, 3)
CLUSTER = "dGhyZWVvbmxvb3BiYWNrIQ"
WITHIN = 60.0
AS_SHIPPED = {"broker.session.timeout.ms": "9000", "broker.heartbeat.interval.ms": "2000"}
"""How long a dead broker remains leader with Kafka's defaults; the embedded node is configured to notice sooner."""


class Cluster:
    """Three nodes, each broker and controller."""

    def __init__(self, nodes: Sequence[Kafka]) -> None:
        self.nodes = dict(zip(IDS, nodes, strict=True))
        self.bootstrap = ",".join(node.bootstrap for node in nodes)

    async def start(self) -> None:
        """Start all nodes at once: one alone has no quorum, and does not serve."""
        await asyncio.gather(*(node.start() for node in self.nodes.values()))
        await self.whole()

    async def end(self) -> None:
        """Kill all nodes: with a clean stop, the last two would wait for the lost quorum."""
        await asyncio.gather(*(self.kill(id_) for id_ in self.nodes))

    async def restart(self, id_: int) -> None:
        """Stop a node cleanly and start it again; when this returns, all replicas are in sync."""
        await self.nodes[id_].stop()
        await self.nodes[id_].start()
        await self.whole()

    async def kill(self, id_: int) -> None:
        """Kill a node, as a power cut would."""
        self.nodes[id_].kill()
        await self.nodes[id_].stop()

    async def whole(self) -> None:
        """Wait until all nodes are up and all replicas are in sync."""
        async with asyncio.timeout(WITHIN):
            while not await self._is_whole():  # noqa: ASYNC110 - Kafka sends no event
                await asyncio.sleep(0.1)

    async def _is_whole(self) -> bool:
        try:
            async with self._admin() as admin:
                brokers = (await admin.describe_cluster())["brokers"]
                partitions = [at for topic in await admin.describe_topics() for at in topic["partitions"]]
        except KafkaError:
            return False
        return len(brokers) == len(IDS) and all(len(at["isr"]) == len(at["replicas"]) for at in partitions)

    async def prefer(self) -> None:
        """Elect the preferred leader, the first replica, of each partition."""
        response = await self._ask(ElectPreferredLeaders())
        assert not response.get_item("error_code"), response

    async def _ask(self, request: Request[Any]) -> Response:
        async with self._admin() as admin:
            return await admin._send_request(request)

    @asynccontextmanager
    async def _admin(self) -> AsyncIterator[AIOKafkaAdminClient]:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        try:
            await admin.start()
            yield admin
        finally:
            await admin.close()

    async def copies(self) -> set[int]:
        """Return the replication factors that occur."""
        async with self._admin() as admin:
            return {len(at["replicas"]) for topic in await admin.describe_topics() for at in topic["partitions"]}

    @asynccontextmanager
    async def alone(self, topic: Topic, id_: int) -> AsyncIterator[None]:
        """Recreate a topic, empty, with one replica on one node; without that node it has no leader."""
        async with self._admin() as admin:
            places = {number: [id_] for number in range(topic.partitions)}
            await self._replace(admin, NewTopic(topic.name, -1, -1, places, topic_config(topic)))
        yield
        async with self._admin() as admin:
            await self._replace(admin, NewTopic(topic.name, topic.partitions, 3, topic_configs=topic_config(topic, 3)))
        await self.whole()

    async def _replace(self, admin: AIOKafkaAdminClient, topic: NewTopic) -> None:
        await admin.delete_topics([topic.name])
        async with asyncio.timeout(WITHIN):
            while (await self._created(admin, topic)) != 0:  # noqa: ASYNC110 - all nodes must have removed it
                await asyncio.sleep(0.1)
            while any(at["leader"] < 0 for at in await self._partitions(admin, topic.name)):  # noqa: ASYNC110
                await asyncio.sleep(0.1)

    async def _created(self, admin: AIOKafkaAdminClient, topic: NewTopic) -> int:
        response: Any = await admin.create_topics([topic])
        return int(response.topic_errors[0][1])

    async def _partitions(self, admin: AIOKafkaAdminClient, topic: str) -> list[dict[str, Any]]:
        found = (await admin.describe_topics([topic]))[0]["partitions"]
        return found or [{"leader": -1}]

    async def leaders(self, topic: str) -> dict[int, int]:
        """Return the leader of each partition."""
        async with self._admin() as admin:
            found = await admin.describe_topics([topic])
        return {at["partition"]: at["leader"] for at in found[0]["partitions"]}

    async def coordinator(self, group: str) -> int:
        """Return a group's coordinator: the leader of its partition of `__consumer_offsets`."""
        async with self._admin() as admin:
            found: int = await admin.find_coordinator(group)
        return found

    async def controller(self) -> int:
        """Return the active controller."""
        response = await self._ask(DescribeQuorum())
        return int(response.get_item("topics")[0][1][0][2])


class _Elected(Response):
    API_KEY = 43
    API_VERSION = 1
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("error_code", Int16),
        (
            "topics",
            Array(
                ("topic", String("utf-8")),
                (
                    "partitions",
                    Array(("partition", Int32), ("error_code", Int16), ("error_message", String("utf-8"))),
                ),
            ),
        ),
    )


class _Elect(RequestStruct):
    API_KEY = 43
    API_VERSION = 1
    RESPONSE_TYPE = _Elected
    SCHEMA = Schema(
        ("election_type", Int8),
        ("topics", Array(("topic", String("utf-8")), ("partitions", Array(Int32)))),
        ("timeout_ms", Int32),
    )


class ElectPreferredLeaders(Request[_Elect]):
    """Kafka's ElectLeaders request, which aiokafka does not have: preferred leaders, of all partitions."""

    API_KEY = 43

    def build(self, request_struct_class: type[_Elect]) -> _Elect:
        return request_struct_class(0, None, 30_000)


class _Quorum(Response):
    API_KEY = 55
    API_VERSION = 0
    SCHEMA = Schema(
        ("error_code", Int16),
        (
            "topics",
            CompactArray(
                ("topic", CompactString("utf-8")),
                (
                    "partitions",
                    CompactArray(
                        ("partition", Int32),
                        ("error_code", Int16),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("high_watermark", Int64),
                        ("voters", CompactArray(("id", Int32), ("end", Int64), ("tags", TaggedFields))),
                        ("observers", CompactArray(("id", Int32), ("end", Int64), ("tags", TaggedFields))),
                        ("tags", TaggedFields),
                    ),
                ),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _DescribeQuorum(RequestStruct):
    API_KEY = 55
    API_VERSION = 0
    RESPONSE_TYPE = _Quorum
    FLEXIBLE_VERSION: ClassVar[bool] = True
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(
                ("topic", CompactString("utf-8")),
                ("partitions", CompactArray(("partition", Int32), ("tags", TaggedFields))),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class DescribeQuorum(Request[_DescribeQuorum]):
    """A request for the active controller."""

    API_KEY = 55

    def build(self, request_struct_class: type[_DescribeQuorum]) -> _DescribeQuorum:
        return request_struct_class([("__cluster_metadata", [(0, {})], {})], {})


@asynccontextmanager
async def cluster(folder: Path) -> AsyncIterator[Cluster]:
    """Start a cluster with all topics of the catalog, with three replicas."""
    ports: list[int] = []
    for _ in range(2 * len(IDS)):
        ports.append(probe.free_port(*ports))
    voters = dict(zip(IDS, ports, strict=False))
    await asyncio.to_thread(KafkaRuntime.prepare, lambda _: None)  # once, not by three nodes at once
    made = Cluster(
        [
            Kafka(
                folder / str(id_),
                port=port,
                node=KafkaNode(id_, voters[id_], voters, CLUSTER),
                properties=AS_SHIPPED,
            )
            for id_, port in zip(IDS, ports[len(IDS) :], strict=True)
        ]
    )
    try:
        await made.start()
        await topic_setup.apply(MeshSettings(broker=made.bootstrap))
        await made.whole()
        yield made
    finally:
        await made.end()
