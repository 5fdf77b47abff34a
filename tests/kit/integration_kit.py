"""Shared by the integration tests: a tier in this process, a plain Kafka client, waiting with a timeout."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from typer.testing import Result

from poise.kafka.record import Record
from poise.settings import MeshSettings
from poise.worker.runtime import WorkerRuntime
from poise.worker.tier import Tier

WITHIN = 20.0

Command = Callable[..., Awaitable[Result]]
"""Runs `poise` with these arguments."""


def settings_for_another_process(settings: MeshSettings) -> MeshSettings:
    """Return the settings of another process of the same mesh, with a generated instance name.

    A worker with a configured name remains a member of its groups when it stops: messages of its partitions would wait
    until the session timeout, 10 s after the test that stopped it.
    """
    return MeshSettings(**settings.model_dump(exclude_unset=True, exclude={"instance"}))


async def until(condition: Callable[[], bool]) -> None:
    """Wait until a condition in this process is true."""
    async with asyncio.timeout(WITHIN):
        while not condition():  # noqa: ASYNC110 - the condition has no event
            await asyncio.sleep(0.01)


@asynccontextmanager
async def serving(settings: MeshSettings, tier: Tier | Callable[[WorkerRuntime], Tier]) -> AsyncIterator[WorkerRuntime]:
    """Run a worker of a tier; yield when it is ready, and stop it as a signal does.

    A function instead of a tier gets the worker's runtime and returns the tier.
    """
    async with WorkerRuntime(settings, tier=tier.name if isinstance(tier, Tier) else "worker") as mesh:
        task = asyncio.create_task(mesh.serve(tier if isinstance(tier, Tier) else tier(mesh)))
        try:
            await until(lambda: task.done() or all(mesh.readiness().values()))
            if task.done():
                await task
            yield mesh
        finally:
            mesh.stop.set()
            await task


class PlainKafkaClient:
    """A Kafka client that does not use Poise's library."""

    def __init__(self, bootstrap: str) -> None:
        self.topic = f"mine-{uuid4().hex[:8]}"
        self._bootstrap = bootstrap
        self._producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
        self._consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)

    async def start(self) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self._bootstrap)
        await admin.start()
        created: Any = await admin.create_topics([NewTopic(self.topic, 2, 1)])
        assert not any(code for _, code, *_ in created.topic_errors), created
        await admin.close()
        await self._producer.start()
        await self._consumer.start()
        self._consumer.assign([TopicPartition(self.topic, number) for number in range(2)])
        for number in range(2):
            self._consumer.seek(TopicPartition(self.topic, number), 0)

    async def stop(self) -> None:
        await self._consumer.stop()
        await self._producer.stop()

    async def forget(self) -> None:
        """Reconnect the producer, which discards its metadata of topics."""
        await self._producer.stop()
        self._producer = AIOKafkaProducer(bootstrap_servers=self._bootstrap)
        await self._producer.start()

    async def send(
        self, topic: str, value: bytes | None, key: bytes | None = None, **headers: str | bytes | None
    ) -> Record:
        """Send a record with these headers; None omits one. `_` in a name stands for `-`.

        By default there is a `correlation_id`, and `reply_to` is this client's topic.
        """
        named = {"reply_to": self.topic, "correlation_id": uuid4().hex} | {
            name if name in {"reply_to", "correlation_id"} else name.replace("_", "-"): value
            for name, value in headers.items()
        }
        raw = [
            (name, text.encode() if isinstance(text, str) else text) for name, text in named.items() if text is not None
        ]
        landed = await self._producer.send_and_wait(topic, value, key=key, headers=raw)
        return Record(landed.topic, landed.partition, landed.offset, landed.timestamp / 1_000, key, value, tuple(raw))

    async def any_reply(self, *, within: float = WITHIN) -> Record:
        """Return the next reply to any call."""
        async with asyncio.timeout(within):
            return Record.of(await self._consumer.getone())

    async def reply(self, sent: Record, *, within: float = WITHIN) -> Record:
        """Return the next reply with the correlation id of the sent record."""
        async with asyncio.timeout(within):
            while True:
                reply = Record.of(await self._consumer.getone())
                if reply.raw_header("correlation_id") == sent.raw_header("correlation_id"):
                    return reply
