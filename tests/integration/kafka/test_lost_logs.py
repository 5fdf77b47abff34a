"""Replaced logs: the members of a group restart, and handle what the log contains."""

import asyncio
import logging
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete
from aiokafka.errors import KafkaError
from group_kit import Group, group
from integration_kit import PlainKafkaClient, serving, until

from poise.contracts.message import Message, Request
from poise.contracts.topics import retry_topic_name
from poise.kafka.admin import KafkaAdmin
from poise.kafka.connection import Connection
from poise.kafka.log_reader import LogAccess, LogReader
from poise.kafka.record import Record
from poise.kafka.topic_identities import TopicIdentities
from poise.liveness import Liveness
from poise.settings import MeshSettings
from poise.stack.kafka import Kafka
from poise.worker.context import Context
from poise.worker.runtime import WorkerRuntime
from poise.worker.tier import Tier
from poise.worker.tier_runner import consumer_group

pytestmark = pytest.mark.integration


class Pong(Message):
    """A custom tier's reply."""

    kind: ClassVar[str] = "pong/1"
    text: str


class Ping(Request[Pong]):
    """A custom tier's request."""

    kind: ClassVar[str] = "ping/1"
    reply: ClassVar[type[Message]] = Pong
    tier: ClassVar[str] = "lost-logs"
    text: str


TOPIC = "poise.lost-logs.requests.interactive"


class HangingTier:
    """A custom tier that records what it handled, and hangs on one text."""

    def __init__(self) -> None:
        self.handled: list[str] = []
        self.release = asyncio.Event()
        self.tier = Tier("lost-logs", {Ping: self._pong})

    async def _pong(self, ping: Ping, _context: Context) -> Pong:
        self.handled.append(ping.text)
        if ping.text == "hang":
            await self.release.wait()
        return Pong(text=ping.text)


async def ask(plain_client: PlainKafkaClient, *texts: str, topic: str = TOPIC) -> None:
    for text in texts:
        await plain_client.send(topic, Ping(text=text).encode(), key=b"one partition")


async def recreate(mesh: WorkerRuntime, topic: str, *, seen: bool) -> None:
    """Delete a topic and create it again, before or after the process has noticed that it is missing."""
    client: Any = mesh.admin._client
    partitions = await mesh.admin.partitions(topic)
    assert partitions is not None
    await until(lambda: mesh.topic_identities.latest(topic) is not None)
    await client.delete_topics([topic])
    if seen:
        await until(lambda: mesh.topic_identities.latest(topic) is None)
    while True:
        created = await client.create_topics([NewTopic(topic, partitions, 1)])
        if not any(code for _, code, *_ in created.topic_errors):
            return


@pytest.mark.parametrize("how", ["at once", "after a while", "unnoticed by the client"])
async def test_a_topic_recreated_under_a_worker(
    mesh_settings: MeshSettings, plain_client: PlainKafkaClient, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    handler, new = HangingTier(), [f"new {number}" for number in range(8)]
    async with serving(mesh_settings, handler.tier) as mesh:
        if how == "unnoticed by the client":  # it may see the old and the new topic, with as many partitions
            for consumer in mesh._consumers:
                coordinator: Any = consumer._consumer._coordinator if consumer._consumer else None
                coordinator._on_metadata_change = lambda: None
        await ask(plain_client, "hang", "2", "3", "4", "5")
        await until(lambda: len(handler.handled) == 5)
        with caplog.at_level(logging.WARNING, "poise.kafka"):
            await recreate(mesh, TOPIC, seen=how == "after a while")
            await plain_client.forget()
            await ask(plain_client, *new)
            await until(lambda: set(handler.handled[5:]) == set(new))
        said = [record.getMessage() for record in caplog.records if TOPIC in record.getMessage()]
        assert said
        assert len([line for line in said if line.startswith(f"topic {TOPIC} was deleted")]) <= 1
        assert len([line for line in said if "read from its beginning" in line]) <= 1
        handler.release.set()
        await until_committed(mesh, len(new))
    again = HangingTier()
    async with serving(mesh_settings, again.tier):
        await ask(plain_client, "last")
        await until(lambda: again.handled == ["last"])


async def until_committed(mesh: WorkerRuntime, offset: int) -> None:
    """Wait until the group has committed an offset in the written partition, and check that it stays."""
    partitions = [TopicPartition(TOPIC, number) for number in range(6)]
    async with asyncio.timeout(20):
        while True:
            found = await mesh.admin.committed_offsets(consumer_group("lost-logs", TOPIC), partitions)
            if any(commit.offset == offset for commit in found.values()):
                return


async def test_a_recreated_topic_of_delayed_retries(
    mesh_settings: MeshSettings, plain_client: PlainKafkaClient
) -> None:
    topic = retry_topic_name("lost-logs", 10.0)

    async def malformed() -> str:
        """Write a record without the headers of a delayed retry, which is a dead letter at once."""
        sent = await plain_client.send(topic, b"{}", key=b"one partition", reply_to=None)
        while positions(await mesh.logs.read_topic("poise.lost-logs.dead")).count(str(sent.position)) <= before:
            pass
        return str(sent.position)

    def positions(letters: list[Record]) -> list[str | None]:
        return [letter.header("poise-dead-position") for letter in letters]

    async with serving(mesh_settings, HangingTier().tier) as mesh:
        before = 0
        first, *_ = [await malformed() for _ in range(3)]
        await recreate(mesh, topic, seen=False)
        await plain_client.forget()
        before = 1
        assert await malformed() == first


# -- without a mesh ---------------------------------------------------------------------------------------------------


async def delete_before(bootstrap: str, at: TopicPartition, offset: int) -> None:
    client = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await client.start()
    try:
        await client.delete_records({at: RecordsToDelete(offset)})
    finally:
        await client.close()


async def commit_from_outside(bootstrap: str, readers: Group, text: str, offset: int) -> None:
    """Commit as an admin client does, while the group has no members."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, group_id=readers.name, enable_auto_commit=False)
    await consumer.start()
    try:
        consumer.assign([TopicPartition(readers.topic, 0)])
        await consumer.commit({TopicPartition(readers.topic, 0): (offset, text)})
    finally:
        await consumer.stop()


async def test_records_deleted_before_they_are_read(kafka: str) -> None:
    async with group(kafka) as readers:
        at = TopicPartition(readers.topic, 0)
        await readers.write(3)
        async with readers.member() as one:
            await until(lambda: len(one.done) == 3)
        await readers.write(5)
        await delete_before(kafka, at, 6)
        async with readers.member() as two:
            await until(lambda: two.done == ["0/6", "0/7"])
            await readers.until_committed(8)


async def test_records_deleted_under_a_member_that_lags(kafka: str, caplog: pytest.LogCaptureFixture) -> None:
    async with group(kafka) as readers, readers.member() as one:
        at = TopicPartition(readers.topic, 0)
        await readers.write(3)
        await until(lambda: len(one.done) == 3)
        await delete_before(kafka, at, 3)
        one.consumer.seek(at, 1)
        await readers.write(2)
        await until(lambda: one.done[3:] == ["0/3", "0/4"])
        await readers.until_committed(5)
    assert f"{readers.topic}/0 is read from offset 3 on: records from 1 on were deleted unread" in caplog.text


async def test_a_committed_offset_beyond_the_end(kafka: str) -> None:
    async with group(kafka) as readers:
        await readers.write(3)
        await commit_from_outside(kafka, readers, "", 1_000_000)
        async with readers.member() as one:
            await until(lambda: one.done == ["0/0", "0/1", "0/2"])
            await until_commit_is(readers, 3)


async def test_a_committed_offset_of_an_earlier_topic_of_that_name(kafka: str) -> None:
    async with group(kafka) as readers:
        await readers.write(3)
        await commit_from_outside(kafka, readers, f"{uuid4()}:", 2)
        async with readers.member() as one:
            await until(lambda: one.done == ["0/0", "0/1", "0/2"])
            commit = await until_commit_is(readers, 3)
        assert commit.topic_id == await readers.topic_id()


async def until_commit_is(readers: Group, offset: int) -> Any:
    async with asyncio.timeout(20):
        while (commit := await readers.committed()) is None or commit.offset != offset:
            pass
    return commit


# -- a broker that loses its data -------------------------------------------------------------------------------------


async def written(readers: Group, number: int) -> None:
    """Write records as soon as the broker is up and the topic has a leader."""
    async with asyncio.timeout(40):
        while True:
            try:
                await readers.write(number)
            except KafkaError:
                await asyncio.sleep(0.1)
            else:
                return


@asynccontextmanager
async def following(bootstrap: str, topic: str) -> AsyncIterator[list[str]]:
    """Yield the positions that a log reader has applied since it started or was last reset."""
    applied: list[str] = []

    async def reset() -> None:
        applied.clear()

    connection = Connection.of(MeshSettings(broker=bootstrap))
    async with KafkaAdmin(connection) as admin:
        access = LogAccess(connection, admin, Liveness(), TopicIdentities())
        async with LogReader(
            access, topic, lambda record: applied.append(f"{record.partition}/{record.offset}"), on_reset=reset
        ):
            yield applied


async def test_a_restored_log_and_a_lost_disk(tmp_path: Path) -> None:
    """Restore an older log, and lose the disk, under a member of a group and under a log reader."""
    async with (
        Kafka(tmp_path / "kafka") as node,
        group(node.bootstrap) as readers,
        readers.member() as one,
        following(node.bootstrap, readers.topic) as applied,
    ):
        await readers.write(2)
        await until(lambda: len(one.done) == len(applied) == 2)
        await readers.until_committed(2)
        await node.stop()
        shutil.copytree(node.directory / "data", tmp_path / "backup")
        await node.start()
        await written(readers, 5)
        await until(lambda: len(one.done) == len(applied) == 7)

        await node.stop()
        shutil.rmtree(node.directory / "data")
        shutil.copytree(tmp_path / "backup", node.directory / "data")
        await node.start()  # the log ends at 2, and 7 have been read
        one.done.clear()
        await written(readers, 1)
        await until(lambda: "0/2" in one.done)
        assert one.done == ["0/0", "0/1", "0/2"], "from the beginning: how much is new nobody knows"
        await until(lambda: applied == ["0/0", "0/1", "0/2"])

        await node.stop()
        shutil.rmtree(node.directory / "data")
        await node.start()
        one.done.clear()
        await readers.create()
        await written(readers, 2)
        await until(lambda: one.done == applied == ["0/0", "0/1"])
        await until_commit_is(readers, 2)
