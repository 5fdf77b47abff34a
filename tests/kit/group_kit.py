"""A consumer group without a mesh: its members, what they handled, and what the group has committed."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any
from uuid import uuid4

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError
from aiokafka.protocol.commit import OffsetCommitRequest

from poise.kafka.admin import KafkaAdmin
from poise.kafka.assignor import sticky
from poise.kafka.connection import Connection
from poise.kafka.consumer import ConcurrentConsumer, ConsumerLimits
from poise.kafka.offset_tracker import Commit
from poise.kafka.record import Record

WITHIN = 20.0


class Member:
    """One member of a group: its consumers, and the messages that it received and finished, by `partition/offset`."""

    def __init__(
        self, consumer: AIOKafkaConsumer, admin: KafkaAdmin, group: str, limits: ConsumerLimits, **options: Any
    ) -> None:
        self.consumer = consumer
        self.given: list[str] = []
        self.done: list[str] = []
        self.handle: Callable[[Record], Awaitable[None]] | None = None
        self.concurrent_consumer = ConcurrentConsumer(
            self._deliver, limits=limits, fetch_state=partial(admin.group_state, group), **{"ordered": False} | options
        )

    async def _deliver(self, record: Record) -> None:
        name = f"{record.partition}/{record.offset}"
        self.given.append(name)
        if self.handle is not None:
            await self.handle(record)
        self.done.append(name)

    @property
    def partitions(self) -> set[int]:
        """Return the partitions that are assigned to this member."""
        return {at.partition for at in self.consumer.assignment()}

    @property
    def generation(self) -> int:
        """Return the generation that this member knows."""
        coordinator: Any = self.consumer._coordinator
        return int(coordinator.generation)


class HeldCommit:
    """Delays a member's commit, then makes it fail as when the coordinator moves."""

    def __init__(self, member: Member, error: Exception) -> None:
        self.held = asyncio.Event()
        self.release = asyncio.Event()
        self.failed = asyncio.Event()
        self._error = error
        coordinator: Any = member.consumer._coordinator
        self._send = coordinator._send_req
        coordinator._send_req = self._held_up

    async def _held_up(self, request: Any) -> Any:
        if isinstance(request, OffsetCommitRequest) and not self.failed.is_set():
            self.held.set()
            await self.release.wait()
            self.failed.set()
            raise self._error
        return await self._send(request)


class Group:
    """A new topic, and a group that reads it."""

    def __init__(
        self,
        bootstrap: str,
        client: AIOKafkaAdminClient,
        admin: KafkaAdmin,
        producer: AIOKafkaProducer,
        partitions: int,
    ) -> None:
        self._client = client
        self.topic = self.name = f"group-{uuid4().hex[:8]}"
        self.partitions = partitions
        self._bootstrap = bootstrap
        self._admin = admin
        self._producer = producer

    async def write(self, number: int, *, partition: int = 0, key: bytes | None = None) -> None:
        """Write messages to a partition."""
        sending = [await self._producer.send(self.topic, b"x", key=key, partition=partition) for _ in range(number)]
        await asyncio.gather(*sending)

    async def topic_id(self) -> str:
        """Return Kafka's id of the topic."""
        return await self._admin.topic_id(self.topic)

    async def create(self) -> None:
        """Create the topic, as soon as the broker is up."""
        async with asyncio.timeout(WITHIN):
            while True:
                try:
                    created: Any = await self._client.create_topics([NewTopic(self.topic, self.partitions, 1)])
                except KafkaError:
                    await asyncio.sleep(0.1)
                    continue
                assert not any(code for _, code, *_ in created.topic_errors), created
                return

    async def committed(self, partition: int = 0) -> Commit | None:
        """Return the group's commit of a partition."""
        at = TopicPartition(self.topic, partition)
        return (await self._admin.committed_offsets(self.name, [at])).get(at)

    async def until_committed(self, offset: int, partition: int = 0) -> Commit:
        """Wait until an offset is committed."""
        async with asyncio.timeout(WITHIN):
            while (commit := await self.committed(partition)) is None or commit.offset < offset:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        return commit

    @asynccontextmanager
    async def member(
        self, limits: ConsumerLimits | None = None, *, max_poll_interval: float = 60.0, **options: Any
    ) -> AsyncIterator[Member]:
        """Run a member until the end of the block; then it drains and leaves."""
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap,
            group_id=self.name,
            enable_auto_commit=False,
            auto_offset_reset="none",
            fetch_max_wait_ms=100,
            session_timeout_ms=10_000,
            heartbeat_interval_ms=300,
            max_poll_interval_ms=round(max_poll_interval * 1_000),
            partition_assignment_strategy=(sticky(),),
        )
        member = Member(consumer, self._admin, self.name, limits or ConsumerLimits(), **options)
        consumer.subscribe([self.topic], listener=member.concurrent_consumer)
        await consumer.start()
        running = asyncio.create_task(member.concurrent_consumer.run(consumer))
        try:
            async with asyncio.timeout(WITHIN):
                await member.concurrent_consumer.assigned.wait()
            yield member
        finally:
            await member.concurrent_consumer.drain()
            await running
            await consumer.stop()


@asynccontextmanager
async def group(bootstrap: str, *, partitions: int = 1) -> AsyncIterator[Group]:
    """Create a group and its topic."""
    client, producer = AIOKafkaAdminClient(bootstrap_servers=bootstrap), AIOKafkaProducer(bootstrap_servers=bootstrap)
    await client.start()
    await producer.start()
    try:
        async with KafkaAdmin(Connection((bootstrap,))) as admin:
            made = Group(bootstrap, client, admin, producer, partitions)
            await made.create()
            yield made
            await client.delete_topics([made.topic])
    finally:
        await producer.stop()
        await client.close()
