"""The environment of all contestants: one Kafka, topics created beforehand, and workers in separate processes."""

import asyncio
import itertools
import random
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from poise.contracts.topics import RETRIEVAL_INTERACTIVE
from tests.benchmarks.messaging.job import Job, headers, request
from tests.benchmarks.worker_process import WorkerProcess

PARTITIONS: Final = 8
OURS: Final = RETRIEVAL_INTERACTIVE.name
POISE: Final = "poise"


@dataclass(slots=True)
class Environment:
    """The broker of a scenario, its clients, and the start of workers."""

    bootstrap: str
    producer: AIOKafkaProducer
    admin: AIOKafkaAdminClient
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    async def topic(self, contestant: str, partitions: int = PARTITIONS) -> str:
        """Return a topic for one run of a contestant: a new one, or Poise's, which the last run has read to its end."""
        if contestant == POISE:
            return OURS
        name = f"bench-{next(self._numbers)}"
        created: Any = await self.admin.create_topics([NewTopic(name, partitions, 1)])
        assert not any(code for _, code, *_ in created.topic_errors), created
        return name

    async def fill(self, topic: str, number: int, *, pause: float = 0.0, partitions: int = PARTITIONS) -> None:
        """Write that many requests to a topic, spread over its first partitions."""
        body = request(pause).encode()
        sent: list[asyncio.Future[Any]] = []
        for index in range(number):
            sent.append(await self.producer.send(topic, body, headers=headers(index), partition=index % partitions))
            if len(sent) == 2_000:
                await asyncio.gather(*sent)
                sent.clear()
        await asyncio.gather(*sent)

    @asynccontextmanager
    async def worker(self, job: Job) -> AsyncIterator[WorkerProcess]:
        """Run a worker during the block."""
        worker = await WorkerProcess.start([sys.executable, "-m", "tests.benchmarks.messaging.worker", job.encode()])
        try:
            yield worker
        finally:
            await worker.stop()


async def paced(rate: float, seconds: float) -> AsyncIterator[tuple[int, float]]:
    """Generate open-loop load: numbers and the unix times at which to send them, independent of earlier outcomes."""
    began = time.time()
    for number in range(round(rate * seconds)):
        scheduled = began + number / rate
        await asyncio.sleep(max(0.0, scheduled - time.time()))
        yield number, scheduled


async def send_paced(
    environment: Environment, topic: str, *, rate: float, seconds: float, pauses: Sequence[float], partitions: int
) -> list[tuple[float, float]]:
    """Send open-loop, with the pauses in a cycle.

    Returns:
        The scheduled time of each message, and its pause.
    """
    sent: list[tuple[float, float]] = []
    outcomes: list[asyncio.Future[Any]] = []
    spread = random.Random(1)
    async for number, scheduled in paced(rate, seconds):
        pause = pauses[number % len(pauses)]
        body = request(pause, scheduled=scheduled).encode()
        at = spread.randrange(partitions)  # so that each partition has slow messages
        outcomes.append(await environment.producer.send(topic, body, headers=headers(number), partition=at))
        sent.append((scheduled, pause))
    await asyncio.gather(*outcomes)
    return sent
