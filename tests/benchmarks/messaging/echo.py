"""Echo: the latency of a request and its reply at low load, for Poise and plain aiokafka over the same hops."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final
from uuid import uuid4

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from poise.contracts.retrieve import Passages
from poise.contracts.topics import REPLIES
from poise.rpc.client import CallOptions
from poise.settings import MeshSettings
from poise.worker.runtime import WorkerRuntime
from tests.benchmarks.command import MeasurementPlan
from tests.benchmarks.figures import FigureCollector, Ratio, ScenarioResult, percentile
from tests.benchmarks.messaging.environment import POISE, Environment, paced
from tests.benchmarks.messaging.job import Job, headers, request

RATE, SECONDS, WARM = 100.0, 4.0, 0.5
BARE: Final = "aiokafka, bare"
Ask = Callable[[int], Awaitable[Passages]]


async def run(environment: Environment, plan: MeasurementPlan) -> ScenarioResult:
    """Measure both contestants in turn."""
    found = FigureCollector()
    for _ in range(plan.repetitions):
        for name, client in ((BARE, bare_client), (POISE, our_client)):
            topic = await environment.topic(name)
            job = Job(name, environment.bootstrap, topic, topic, expect=1 << 60, work="echo")
            async with environment.worker(job), client(environment.bootstrap, topic) as ask:
                await open_loop_latencies(ask, WARM)
                latencies = await open_loop_latencies(ask, SECONDS * plan.scale)
            for label, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
                found.add(f"{label} ms", name, percentile(latencies, share) * 1_000)
    return ScenarioResult(
        "echo",
        found.figures(),
        [
            Ratio("p50 over bare aiokafka", found.ratio("p50 ms", POISE, BARE), 1.25, at_least=False),
            Ratio("p99 over bare aiokafka", found.ratio("p99 ms", POISE, BARE), 1.5, at_least=False),
        ],
        [f"Open loop, {RATE:.0f} requests/s of 1 KB, replies of 1 KB."],
    )


async def open_loop_latencies(ask: Ask, seconds: float) -> list[float]:
    """Send requests open-loop and return the seconds from each scheduled time to its reply."""
    latencies: list[float] = []

    async def one(number: int, scheduled: float) -> None:
        await ask(number)
        latencies.append(time.time() - scheduled)

    async with asyncio.TaskGroup() as group:
        async for number, scheduled in paced(RATE, seconds):
            group.create_task(one(number, scheduled))
    return latencies


@asynccontextmanager
async def our_client(bootstrap: str, _topic: str) -> AsyncIterator[Ask]:
    """Return a client of Poise."""
    async with WorkerRuntime(MeshSettings(broker=bootstrap, spans=False), tier="gateway") as mesh:
        yield lambda number: mesh.rpc.call(request(), CallOptions(run=f"run-{number:012d}", step="retrieve"))


@asynccontextmanager
async def bare_client(bootstrap: str, topic: str) -> AsyncIterator[Ask]:
    """Return a client of plain aiokafka: a producer, and a consumer assigned to one reply partition."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True)
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    waiting: dict[str, asyncio.Future[bytes]] = {}

    async def read() -> None:
        async for raw in consumer:
            waiter = waiting.pop(dict(raw.headers)["correlation_id"].decode(), None)
            if waiter is not None:
                waiter.set_result(raw.value)

    async def ask(number: int) -> Passages:
        name = uuid4().hex
        waiting[name] = asyncio.get_running_loop().create_future()
        said = [
            *headers(number),
            ("correlation_id", name.encode()),
            ("reply_to", REPLIES.name.encode()),
            ("poise-reply-partition", b"0"),
        ]
        reply = waiting[name]
        await producer.send_and_wait(topic, request().encode(), key=f"{number}/retrieve".encode(), headers=said)
        return Passages.model_validate_json(await reply)

    async with producer, consumer:
        consumer.assign([partition := TopicPartition(REPLIES.name, 0)])
        await consumer.seek_to_end(partition)
        await consumer.position(partition)
        reading = asyncio.create_task(read())
        try:
            yield ask
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
