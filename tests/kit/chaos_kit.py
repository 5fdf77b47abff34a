"""Shared by the chaos tests: a separate Kafka and Valkey, a raw reader of whole topics, lag, memory."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final, Self

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from poise.kafka import topic_setup
from poise.settings import MeshSettings
from poise.stack.kafka import Kafka
from poise.stack.valkey import Valkey
from poise.stack.worker import Worker

SETTLED_WITHIN: Final = 120.0
"""Seconds within which all records are handled after the last disturbance."""

Raw = ConsumerRecord[bytes, bytes]


@asynccontextmanager
async def engines(directory: Path) -> AsyncIterator[tuple[Kafka, Valkey]]:
    """Run a Kafka with every topic and a Valkey; both can be killed and restarted with their data."""
    async with Kafka(directory / "kafka") as kafka, Valkey(directory / "valkey") as valkey:
        await topic_setup.apply(MeshSettings(broker=kafka.bootstrap))
        yield kafka, valkey


@asynccontextmanager
async def working(workers: Iterable[Worker]) -> AsyncIterator[None]:
    """Run workers; stop them as `poise down` does."""
    async with AsyncExitStack() as stack:
        await asyncio.gather(*(stack.enter_async_context(worker) for worker in workers))
        yield


async def lag(bootstrap: str) -> dict[str, int]:
    """Return the number of uncommitted records by group, for the groups that have any."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    await admin.start()
    await consumer.start()
    try:
        behind: dict[str, int] = {}
        for group, _ in await admin.list_consumer_groups():
            committed = await admin.list_consumer_group_offsets(group)
            read = {at.topic for at in committed} | {group.rpartition(":")[2]}  # a group of one topic has its name
            wanted = [TopicPartition(topic, number) for topic in read for number in await _partitions(admin, topic)]
            for at, end in (await consumer.end_offsets(wanted)).items():
                done = committed[at].offset if at in committed else -1
                first = max(done, 0)
                if end > first:
                    behind[group] = behind.get(group, 0) + end - first
        return behind
    finally:
        await consumer.stop()
        await admin.close()


async def _partitions(admin: AIOKafkaAdminClient, topic: str) -> list[int]:
    (found,) = await admin.describe_topics([topic])
    return [partition["partition"] for partition in found["partitions"]]


async def settled(bootstrap: str, *, every: float = 0.5) -> None:
    """Wait until no group has lag, polling at an interval.

    Raises:
        TimeoutError: A group still has lag; the message names it and the lag.
    """
    behind: dict[str, int] | str = "not read"
    try:
        async with asyncio.timeout(SETTLED_WITHIN):
            while behind := await lag(bootstrap):  # noqa: ASYNC110 - other processes commit
                await asyncio.sleep(every)
    except TimeoutError as error:
        raise TimeoutError(f"after {SETTLED_WITHIN:.0f} s groups are still behind: {behind}") from error


class PlainTopicReader:
    """Reads every record of some topics from the beginning, as they arrive, without Poise's library."""

    def __init__(self, bootstrap: str, topics_: Sequence[str], take: Callable[[Raw], None]) -> None:
        self._topics = topics_
        self._take = take
        self._consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest")
        self._reading: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self._consumer.start()
        self._consumer.assign([at for topic in self._topics for at in await self._of(topic)])
        await self._consumer.seek_to_beginning()
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        await self._consumer.stop()

    async def _of(self, topic: str) -> list[TopicPartition]:
        known = await self._consumer._client._wait_on_metadata(topic)
        return [TopicPartition(topic, number) for number in sorted(known)]

    async def _read(self) -> None:
        while True:
            try:
                batches = await self._consumer.getmany(timeout_ms=500)
            except KafkaError:
                await asyncio.sleep(0.2)  # the broker is down; its records are read when it is back
                continue
            for records in batches.values():
                for record in records:
                    self._take(record)

    async def to_the_end(self) -> None:
        """Wait until everything that is in the topics now has been read."""
        ends = await self._consumer.end_offsets(list(self._consumer.assignment()))
        for at, end in ends.items():
            while await self._consumer.position(at) < end:
                self._alive()
                await asyncio.sleep(0.05)

    def _alive(self) -> None:
        if self._reading is not None and self._reading.done():
            self._reading.result()


def rss(pid: int) -> float:
    """Return the resident memory of a process, MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1]) / 1_024
