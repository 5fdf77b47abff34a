"""A whole mesh on two real Kafka nodes: a Valkey, a model server, workers of each tier, and a supervisor.

Node 1 leads all partitions except for a few, whose only replica is on node 2: while node 2 is down they have no leader.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError
from chaos_load import ChaosSupervisor
from chaos_runs import CORPUS, CountingModel

from poise.client import Poise
from poise.contracts.topics import ASK_INTERACTIVE, INFERENCE_INTERACTIVE, RUNS_INTERACTIVE, Topic
from poise.kafka import topic_setup
from poise.kafka.admin import topic_config
from poise.settings import MeshSettings
from poise.stack import probe
from poise.stack.kafka import Kafka, KafkaNode
from poise.stack.valkey import Valkey
from poise.stack.worker import CustomTierWorker, Worker

ANSWERED_WITHIN: Final = 5.0
"""Seconds for one administrative request."""
UNKNOWN_TOPIC: Final = 3
CLUSTER: Final = "c29ha3NvYWtzb2Frc29hawo"
Places = Mapping[Topic, tuple[int, ...]]
"""By topic: the partitions whose only replica is on node 2."""
ON_NODE_2: Final[Places] = {RUNS_INTERACTIVE: (5,), INFERENCE_INTERACTIVE: (4, 5), ASK_INTERACTIVE: (5,)}
ANSWERS: Final = "soak.answers"
"""The topic of replies to raw Kafka clients; one partition."""
TIERS: Final = {"orchestration": 2, "retrieval": 1, "inference": 1, "evaluation": 1, "gateway": 1}


@dataclass
class TwoNodeMesh:
    """The running parts."""

    kafka: Kafka
    second: Kafka
    valkey: Valkey
    model: CountingModel
    supervisor: ChaosSupervisor
    gateway_url: str
    plain_client: AIOKafkaProducer
    """A Kafka client that does not use Poise's library."""
    on_node_2: Places

    @property
    def bootstrap(self) -> str:
        """Return the address of the first node, which is never stopped."""
        return self.kafka.bootstrap

    @property
    def workers(self) -> list[Worker]:
        """Return all workers, including the gateway."""
        return list(self.supervisor.workers)

    async def readiness(self) -> dict[str, bool]:
        """Return for each worker whether it reports that it is ready."""
        found = {}
        for worker in self.workers:
            try:
                found[worker.name] = await probe.http_status(f"{worker.admin_url}/readyz") == 200
            except OSError:
                found[worker.name] = False
        return found

    @asynccontextmanager
    async def admin(self) -> AsyncIterator[AIOKafkaAdminClient]:
        """Connect an admin client."""
        client = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await client.start()
        try:
            yield client
        finally:
            await client.close()

    async def recreate(self, topic: Topic) -> None:
        """Delete a topic and create it again, as an operator's script would."""
        async with self.admin() as admin:
            await recreate(admin, topic, self.on_node_2.get(topic, ()))

    @asynccontextmanager
    async def without_leader(self) -> AsyncIterator[None]:
        """Kill node 2 for the duration of the block: its partitions have no leader."""
        self.second.kill()
        await self.second.child.wait()
        yield
        await self.second.start()

    async def ingest(self) -> None:
        """Publish the corpus, and wait until it can be found."""
        async with Poise(self.bootstrap) as poise:
            epoch = await poise.ingest(CORPUS)
            await poise.ask("How does a lighthouse warn ships?", min_epoch=epoch, timeout=120)


async def recreate(admin: AIOKafkaAdminClient, topic: Topic, on_node_2: tuple[int, ...]) -> None:
    """Delete a topic, and create it again with some partitions on node 2 and the others on node 1.

    The broker deletes in the background, and refuses the name until then. A request may go to a node that is down.
    """
    placed = {number: [2 if number in on_node_2 else 1] for number in range(topic.partitions)}
    new = NewTopic(topic.name, -1, -1, replica_assignments=placed, topic_configs=topic_config(topic))
    deleted = False
    while True:
        try:
            async with asyncio.timeout(ANSWERED_WITHIN):
                if not deleted:
                    gone: Any = await admin.delete_topics([topic.name])
                    deleted = all(code in {0, UNKNOWN_TOPIC} for _, code in gone.topic_error_codes)
                made: Any = await admin.create_topics([new])
        except (KafkaError, TimeoutError):
            continue
        if deleted and all(error[1] == 0 for error in made.topic_errors):
            return


@asynccontextmanager
async def nodes(folder: Path, on_node_2: Places) -> AsyncIterator[tuple[Kafka, Kafka]]:
    """Start two brokers. The first is also the controller, and leads what is created before the second is up."""
    ports = [probe.free_port() for _ in range(4)]
    voters = {1: ports[0]}
    first = Kafka(folder / "1", port=ports[2], node=KafkaNode(1, ports[0], voters, CLUSTER))
    second = Kafka(
        folder / "2",
        port=ports[3],
        node=KafkaNode(2, ports[1], voters, CLUSTER),
        properties={"process.roles": "broker", "listeners": f"PLAINTEXT://{probe.LOOPBACK}:{ports[3]}"},
    )
    async with first:
        await topic_setup.apply(MeshSettings(broker=first.bootstrap), replication=1)
        await _internal_topics(first.bootstrap)
        async with second:
            admin = AIOKafkaAdminClient(bootstrap_servers=first.bootstrap)
            await admin.start()
            try:
                for topic, numbers in on_node_2.items():
                    await recreate(admin, topic, numbers)
            finally:
                await admin.close()
            yield first, second


async def _internal_topics(bootstrap: str) -> None:
    """Create Kafka's internal topics while there is one node: groups and transactions must not be on the other."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(ANSWERS, 1, 1)])
        producer = AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id="soak", transaction_timeout_ms=10_000)
        async with producer, producer.transaction():
            await producer.send_and_wait(ANSWERS, b"first")  # no group reads it, so none ever commits behind the marker
        while True:  # a request for a group's coordinator creates the topic, which takes a moment
            try:
                await admin.find_coordinator("soak")
            except KafkaError:
                continue
            return
    finally:
        await admin.close()


@asynccontextmanager
async def started_mesh(
    folder: Path, seed: int, *, on_node_2: Places = ON_NODE_2, custom: Path | None = None
) -> AsyncIterator[TwoNodeMesh]:
    """Start all parts; when this yields, the mesh answers.

    Args:
        folder: For data and logs.
        seed: The supervisor's seed.
        on_node_2: The partitions that have no leader while node 2 is down.
        custom: The file of a custom tier, for which a worker is started too.
    """
    async with AsyncExitStack() as stack:
        first, second = await stack.enter_async_context(nodes(folder / "kafka", on_node_2))
        valkey = await stack.enter_async_context(Valkey(folder / "valkey"))
        model = await stack.enter_async_context(CountingModel(folder / "model"))
        port = probe.free_port()
        variables = {
            "POISE_BROKER": first.bootstrap,
            "POISE_REDIS_URL": valkey.url,
            "POISE_GATEWAY_PORT": str(port),
            "POISE_LOG_LEVEL": "WARNING",
            "POISE_INFERENCE_BACKENDS": json.dumps(
                {"default": {"url": f"http://{model.address}", "model": "counting", "concurrency": 32}}
            ),
        }
        made: list[Worker] = [
            Worker(tier, n, folder / f"{tier}-{n}", port=0, log=folder / f"{tier}-{n}.log", environment=variables)
            for tier, number in TIERS.items()
            for n in range(1, number + 1)
        ]
        if custom is not None:
            log = folder / "custom.log"
            made.append(CustomTierWorker(str(custom), 1, folder / "custom", port=0, log=log, environment=variables))
        supervisor = await stack.enter_async_context(ChaosSupervisor(made, seed))
        plain_client = AIOKafkaProducer(bootstrap_servers=first.bootstrap, max_request_size=4 * 1024 * 1024)
        await stack.enter_async_context(plain_client)
        url = f"http://{probe.LOOPBACK}:{port}"
        played = TwoNodeMesh(first, second, valkey, model, supervisor, url, plain_client, on_node_2)
        await played.ingest()
        yield played
