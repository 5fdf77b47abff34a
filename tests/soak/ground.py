"""What the soak runs on: two real Kafka nodes, a Valkey, a model server, a worker of each tier, and a supervisor.

Node 1 leads everything but a few partitions, which stand on node 2 alone: while node 2 is away they have no leader.
"""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError
from chaos_load import Supervisor
from chaos_runs import CORPUS, CountingModel

from poise.client import Poise
from poise.contracts.topics import ASK_INTERACTIVE, INFERENCE_INTERACTIVE, RUNS_INTERACTIVE, Topic
from poise.messaging import topics
from poise.messaging.admin import settings_of
from poise.settings import MeshSettings
from poise.stack import Kafka, Valkey, probe
from poise.stack.kafka import Node
from poise.stack.worker import OwnWorker, Worker
from tests.soak import large_replies

CLUSTER: Final = "c29ha3NvYWtzb2Frc29hawo"
ON_NODE_2: Final = {RUNS_INTERACTIVE: (5,), INFERENCE_INTERACTIVE: (4, 5), ASK_INTERACTIVE: (5,)}
"""Partitions that node 2 alone has."""
ANSWERS: Final = "soak.answers"
"""Where the replies to raw Kafka clients go; one partition."""
TIERS: Final = {"orchestration": 2, "retrieval": 1, "inference": 1, "evaluation": 1, "gateway": 1}
WITHIN: Final = 60.0


@dataclass
class Ground:
    """What runs."""

    kafka: Kafka
    second: Kafka
    valkey: Valkey
    model: CountingModel
    supervisor: Supervisor
    gateway_url: str
    outsider: AIOKafkaProducer
    """A client of Kafka that knows nothing of Poise's library."""

    @property
    def bootstrap(self) -> str:
        """The first node: it is never stopped."""
        return self.kafka.bootstrap

    @property
    def workers(self) -> list[Worker]:
        """Every worker, the gateway included."""
        return list(self.supervisor.workers)

    async def readiness(self) -> dict[str, bool]:
        """Which workers say that they are ready."""
        found = {}
        for worker in self.workers:
            try:
                found[worker.name] = await probe.http_status(f"{worker.admin_url}/readyz") == 200
            except OSError:
                found[worker.name] = False
        return found

    @asynccontextmanager
    async def admin(self) -> AsyncIterator[AIOKafkaAdminClient]:
        """An administrator's connection."""
        client = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await client.start()
        try:
            yield client
        finally:
            await client.close()

    async def recreate(self, topic: Topic) -> None:
        """Delete a topic and create it again, as an operator's script would."""
        async with self.admin() as admin:
            await recreate(admin, topic)

    async def ingest(self) -> None:
        """Put the corpus in, and wait until it can be found."""
        async with Poise(self.bootstrap) as poise:
            epoch = await poise.ingest(CORPUS)
            await poise.ask("How does a lighthouse warn ships?", min_epoch=epoch, timeout=120)


async def recreate(admin: AIOKafkaAdminClient, topic: Topic) -> None:
    """Delete a topic, and create it again with its partitions where they were."""
    placed = {number: [2 if number in ON_NODE_2.get(topic, ()) else 1] for number in range(topic.partitions)}
    await admin.delete_topics([topic.name])
    new = NewTopic(topic.name, -1, -1, replica_assignments=placed, topic_configs=settings_of(topic))
    while True:  # the broker deletes in the background, and refuses the name until then
        try:
            response: Any = await admin.create_topics([new])
        except KafkaError:
            continue
        if all(error[1] == 0 for error in response.topic_errors):
            return


@asynccontextmanager
async def nodes(folder: Path) -> AsyncIterator[tuple[Kafka, Kafka]]:
    """Two brokers; the first is the controller too, and leads what is made before the second is there."""
    ports = [probe.free_port() for _ in range(4)]
    voters = {1: ports[0]}
    first = Kafka(folder / "1", port=ports[2], node=Node(1, ports[0], voters, CLUSTER))
    second = Kafka(
        folder / "2",
        port=ports[3],
        node=Node(2, ports[1], voters, CLUSTER),
        properties={"process.roles": "broker", "listeners": f"PLAINTEXT://{probe.LOOPBACK}:{ports[3]}"},
    )
    async with first:
        await topics.apply(MeshSettings(broker=first.bootstrap), replication=1)
        await _internal_topics(first.bootstrap)
        async with second:
            admin = AIOKafkaAdminClient(bootstrap_servers=first.bootstrap)
            await admin.start()
            try:
                await admin.create_topics([NewTopic(ANSWERS, -1, -1, replica_assignments={0: [1]})])
                for topic in ON_NODE_2:
                    await recreate(admin, topic)
            finally:
                await admin.close()
            yield first, second


async def _internal_topics(bootstrap: str) -> None:
    """Have Kafka make its own topics while there is one node: groups and transactions must not stand on the other."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id="soak", transaction_timeout_ms=10_000)
    async with producer, producer.transaction():
        await producer.send_and_wait("poise.feedback", b"", key=b"first")
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        while True:  # to ask for a group's coordinator makes the topic, which takes a moment
            try:
                await admin.find_coordinator("soak")
            except KafkaError:
                continue
            return
    finally:
        await admin.close()


@asynccontextmanager
async def ground(folder: Path, seed: int) -> AsyncIterator[Ground]:
    """Start everything; when this yields, the mesh answers."""
    async with AsyncExitStack() as stack:
        first, second = await stack.enter_async_context(nodes(folder / "kafka"))
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
            Worker(tier, n, folder / f"{tier}-{n}", port=0, log=folder / f"{tier}-{n}.log", variables=variables)
            for tier, number in TIERS.items()
            for n in range(1, number + 1)
        ]
        own = large_replies.__file__
        made.append(OwnWorker(own, 1, folder / "own", port=0, log=folder / "own.log", variables=variables))
        supervisor = await stack.enter_async_context(Supervisor(made, seed))
        outsider = AIOKafkaProducer(bootstrap_servers=first.bootstrap, max_request_size=4 * 1024 * 1024)
        await stack.enter_async_context(outsider)
        played = Ground(first, second, valkey, model, supervisor, f"http://{probe.LOOPBACK}:{port}", outsider)
        await played.ingest()
        yield played
