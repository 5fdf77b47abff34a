"""A cluster of three Kafka nodes, of the same jars as the embedded one."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Int8, Int16, Int32, Schema, String

from poise.messaging import topics
from poise.settings import MeshSettings
from poise.stack import Kafka, probe
from poise.stack.kafka import Node
from poise.stack.runtime import Runtime

IDS = (1, 2, 3)
CLUSTER = "dGhyZWVvbmxvb3BiYWNrIQ"
WITHIN = 60.0


class Cluster:
    """Three nodes, each broker and controller."""

    def __init__(self, nodes: Sequence[Kafka]) -> None:
        self.nodes = dict(zip(IDS, nodes, strict=True))
        self.bootstrap = ",".join(node.bootstrap for node in nodes)

    async def start(self) -> None:
        """All at once: one alone has no quorum, and does not serve."""
        await asyncio.gather(*(node.start() for node in self.nodes.values()))
        await self.whole()

    async def stop(self) -> None:
        await asyncio.gather(*(node.stop() for node in self.nodes.values()))

    async def restart(self, id_: int) -> None:
        """Stop one cleanly and start it again; when this returns, every copy is in sync."""
        await self.nodes[id_].stop()
        await self.nodes[id_].start()
        await self.whole()

    async def kill(self, id_: int) -> None:
        """End one as a power cut would."""
        self.nodes[id_].kill()
        await self.nodes[id_].child.wait()

    async def whole(self) -> None:
        """Wait until all nodes are there and every copy of every partition is in sync."""
        async with asyncio.timeout(WITHIN):
            while not await self._is_whole():  # noqa: ASYNC110 - Kafka tells nobody
                await asyncio.sleep(0.1)

    async def _is_whole(self) -> bool:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        try:
            await admin.start()
            brokers = (await admin.describe_cluster())["brokers"]
            partitions = [at for topic in await admin.describe_topics() for at in topic["partitions"]]
        except KafkaError:
            return False
        finally:
            await admin.close()
        return len(brokers) == len(IDS) and all(len(at["isr"]) == len(IDS) for at in partitions)

    async def prefer(self) -> None:
        """Give every partition back to its preferred leader, the first of its copies."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await admin.start()
        try:
            response = await admin._send_request(ElectPreferredLeaders())
        finally:
            await admin.close()
        assert not response.get_item("error_code"), response

    async def leaders(self, topic: str) -> dict[int, int]:
        """The leader of each partition."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await admin.start()
        try:
            found: Any = await admin.describe_topics([topic])
        finally:
            await admin.close()
        return {at["partition"]: at["leader"] for at in found[0]["partitions"]}


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
    """Kafka's ElectLeaders request, which aiokafka does not speak: preferred leaders, of all partitions."""

    API_KEY = 43

    def build(self, request_struct_class: type[_Elect]) -> _Elect:
        return request_struct_class(0, None, 30_000)


@asynccontextmanager
async def cluster(folder: Path) -> AsyncIterator[Cluster]:
    """A cluster that has every topic of the catalogue, in three copies."""
    ports: list[int] = []
    for _ in range(2 * len(IDS)):
        ports.append(probe.free_port(*ports))
    voters = dict(zip(IDS, ports, strict=False))
    await asyncio.to_thread(Runtime.prepare, lambda _: None)  # once, not by three at once
    made = Cluster(
        [
            Kafka(folder / str(id_), port=port, node=Node(id_, voters[id_], voters, CLUSTER))
            for id_, port in zip(IDS, ports[len(IDS) :], strict=True)
        ]
    )
    try:
        await made.start()
        await topics.apply(MeshSettings(broker=made.bootstrap))
        await made.whole()
        yield made
    finally:
        await made.stop()
