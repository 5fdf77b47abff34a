"""A log reader on a real Kafka: whatever happens to its topic, it recovers or ends with the reason."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
from aiokafka.admin import NewPartitions
from integration_kit import settings_for_another_process, until

from poise.contracts.topics import Topic
from poise.errors import SetupError
from poise.kafka import log_reader
from poise.kafka.log_reader import LogReader
from poise.kafka.log_stream import Start
from poise.kafka.record import Position, Record
from poise.settings import MeshSettings
from poise.worker.runtime import WorkerRuntime

pytestmark = pytest.mark.integration


@pytest_asyncio.fixture
async def mesh(mesh_settings: MeshSettings, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[WorkerRuntime]:
    monkeypatch.setattr(log_reader, "MAX_RETRY_BACKOFF", 0.5)
    async with WorkerRuntime(settings_for_another_process(mesh_settings), tier="client") as mesh:
        yield mesh


class RecreatableLog:
    """A topic that a test deletes, recreates and truncates; and what a reader has applied of it."""

    def __init__(self, mesh: WorkerRuntime) -> None:
        self.topic = Topic(f"log-{uuid4().hex[:8]}", (), partitions=2, retention=3_600.0)
        self.applied: list[str] = []
        self.resets = 0
        self._mesh = mesh

    async def create(self) -> None:
        await self._mesh.admin.create([self.topic])

    async def delete(self) -> None:
        await self._mesh.admin._client.delete_topics([self.topic.name])
        async with asyncio.timeout(10):
            while self.topic.name in await self._mesh.admin.list_topics():  # noqa: ASYNC110 - the broker does not signal it
                await asyncio.sleep(0.02)

    async def write(self, *texts: str, partition: int = 0) -> Position:
        for text in texts:
            landed = await self._mesh.producer.records.send(
                self.topic.name, text.encode(), key=None, headers=[], partition=partition
            )
        return landed

    def apply(self, record: Record) -> None:
        self.applied.append((record.value or b"").decode())

    async def reset(self) -> None:
        self.resets += 1
        self.applied.clear()

    def reader(self, start: Start = "beginning") -> LogReader:
        return LogReader(self._mesh.logs.access, self.topic.name, self.apply, start=start, on_reset=self.reset)


@pytest_asyncio.fixture
async def log(mesh: WorkerRuntime) -> AsyncIterator[RecreatableLog]:
    log = RecreatableLog(mesh)
    await log.create()
    yield log


async def test_it_reads_existing_and_new_records(log: RecreatableLog) -> None:
    await log.write("a", "b")
    async with log.reader() as reader:
        await reader.wait_until_opening_end()
        assert log.applied == ["a", "b"]
        await log.write("c", partition=1)
        await reader.wait_until(lambda: log.applied == ["a", "b", "c"])
        assert reader.lag == 0


@pytest.mark.parametrize("start", ["beginning", "end", "time", "offsets"])
async def test_a_recreated_topic_is_read_again(
    log: RecreatableLog, start: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Recreate the topic with fewer and with more records: offsets do not always show that it was recreated."""
    starts: dict[str, Start] = {"time": time.time() - 60.0, "offsets": {0: 1, 1: 0}}
    await log.write("a", "b")
    async with log.reader(starts.get(start, start)) as reader:  # type: ignore[arg-type]
        await reader.wait_until_open()
        await log.write("c")
        await reader.wait_until(lambda: log.applied[-1:] == ["c"])
        for said in (["x"], ["1", "2", "3", "4", "5", "6"]):
            caplog.clear()
            resets = log.resets
            await log.delete()
            await log.create()
            await log.write(*said)
            await reader.wait_until(lambda resets=resets, said=said: log.resets > resets and log.applied == said)  # type: ignore[misc]
            assert log.resets == resets + 1
            (message,) = [line for line in caplog.messages if "it is read again" in line]
            assert message.startswith(f"topic {log.topic.name} was recreated")


async def test_a_recreated_topic_that_is_longer_is_noticed_by_its_id(log: RecreatableLog) -> None:
    """Check that records below the old position do not silently count as read."""
    await log.write("a", "b")
    async with log.reader() as reader:
        await reader.wait_until_opening_end()
        assert reader._stream is not None
        consumer = reader._stream._consumer
        consumer.pause(*consumer.assignment())
        await log.delete()
        await log.create()
        await log.write("1", "2", "3", "4")
        consumer.resume(*consumer.assignment())
        await reader.wait_until(lambda: log.applied == ["1", "2", "3", "4"])
        assert log.resets == 1


async def test_a_truncated_log_is_read_again(log: RecreatableLog, caplog: pytest.LogCaptureFixture) -> None:
    """Start after the end of a log with the same id, as after a restore from an older copy."""
    await log.write("a", "b")
    async with log.reader({0: 7, 1: 0}) as reader:
        await reader.wait_until(lambda: log.applied == ["a", "b"])
        assert log.resets == 1
    assert "was truncated: partition 0 ends before the reader's position" in caplog.text


async def test_a_log_truncated_while_it_is_read_is_read_again(
    log: RecreatableLog, caplog: pytest.LogCaptureFixture
) -> None:
    await log.write("a", "b")
    async with log.reader() as reader:
        await reader.wait_until_opening_end()
        assert reader._stream is not None
        consumer = reader._stream._consumer
        for partition in consumer.assignment():  # the broker answers as for a log that lost its end
            consumer.seek(partition, 1_000)
        await reader.wait_until(lambda: log.resets == 1 and log.applied == ["a", "b"])
    assert "was truncated: partition " in caplog.text
    assert caplog.text.count("it is read again") == 1


async def test_records_deleted_before_they_were_read_are_skipped(log: RecreatableLog, mesh: WorkerRuntime) -> None:
    await log.write("a", "b")
    async with log.reader() as reader:
        await reader.wait_until_opening_end()
        assert reader._stream is not None
        consumer = reader._stream._consumer
        for partition in consumer.assignment():
            consumer.seek(partition, 0)  # like a reader that lags far behind
        await mesh.admin.delete_records_before(log.topic.name, {0: 2})
        await log.write("c")
        await reader.wait_until(lambda: "c" in log.applied)
        assert log.resets == 0


async def test_a_topic_that_is_missing_is_waited_for(log: RecreatableLog) -> None:
    await log.delete()
    async with log.reader() as reader:
        await until(lambda: reader._component is not None and "does not exist" in (reader._component.blocked_by or ""))
        with pytest.raises(SetupError, match=r"was not read to its end in 0\.1 s: topic .* does not exist"):
            await reader.wait_until_opening_end(0.1)
        await log.create()
        await log.write("a")
        await reader.wait_until(lambda: log.applied == ["a"])
        assert log.resets == 0


async def test_partitions_that_are_added_are_read_too(log: RecreatableLog, mesh: WorkerRuntime) -> None:
    async with log.reader() as reader:
        await reader.wait_until_opening_end()
        await mesh.admin._client.create_partitions({log.topic.name: NewPartitions(3)})
        async with asyncio.timeout(10):
            while (await mesh.admin.metadata(log.topic.name)).partitions < 3:  # noqa: ASYNC110 - the broker does not signal it
                await asyncio.sleep(0.02)
        await log.write("a", partition=2)
        await reader.wait_until(lambda: log.applied == ["a"])


async def test_a_record_that_cannot_be_applied_is_skipped(
    log: RecreatableLog, caplog: pytest.LogCaptureFixture
) -> None:
    async with log.reader() as reader:
        await log._mesh.producer.records.send(log.topic.name, b"\xff", key=None, headers=[], partition=0)
        await log.write("a")
        await reader.wait_until(lambda: log.applied == ["a"])
    assert f"{log.topic.name}/0/0 cannot be applied and is skipped: UnicodeDecodeError" in caplog.text


@pytest.mark.parametrize("error", [SetupError("the disk is full"), BaseException("a panic")])
async def test_an_error_that_is_not_the_records_fault_ends_the_process(
    log: RecreatableLog, mesh: WorkerRuntime, error: BaseException
) -> None:
    def fail(_: Record) -> None:
        raise error

    await log.write("a")
    async with LogReader(mesh.logs.access, log.topic.name, fail) as reader:
        with pytest.raises(SetupError, match=f"reader of {log.topic.name} has failed: .*{error}"):
            await mesh.wait_for_stop()
        assert not mesh.readiness()[f"reader of {log.topic.name}"]
        with pytest.raises(SetupError, match=str(error)):
            await reader.wait_until(lambda: False)


async def test_a_reader_that_is_killed_ends_the_process(log: RecreatableLog, mesh: WorkerRuntime) -> None:
    async with log.reader() as reader:
        await reader.wait_until_opening_end()
        assert mesh.readiness()[f"reader of {log.topic.name}"]
        ending = asyncio.create_task(mesh.wait_for_stop())
        assert reader._task is not None
        reader._task.cancel()
        with pytest.raises(SetupError, match=f"reader of {log.topic.name} has failed"):
            await ending
        assert not mesh.readiness()[f"reader of {log.topic.name}"]


async def test_a_reader_whose_fetcher_has_stopped_reconnects(
    log: RecreatableLog, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cancel the fetcher's tasks: a fetcher may end with an error that is not reported."""
    monkeypatch.setattr("poise.kafka.log_stream.STALLED_AFTER", 1.5)
    caplog.set_level(logging.INFO)
    async with log.reader() as reader:
        await reader.wait_until_opening_end()
        assert reader._stream is not None
        fetcher: Any = reader._stream._consumer._fetcher
        for task in (fetcher._fetch_task, *fetcher._pending_tasks):
            task.cancel()
        await log.write("a")
        await reader.wait_until(lambda: log.applied == ["a"])
    assert "the broker does not answer fetches of partition 0, 1: trying again" in caplog.text
