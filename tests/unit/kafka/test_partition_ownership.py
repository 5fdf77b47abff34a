"""Partition ownership: the process joins the group again after any error, and when the topic is recreated."""

import asyncio

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from poise.kafka import partition_ownership
from poise.kafka.admin import KafkaAdmin
from poise.kafka.connection import Connection
from poise.kafka.log_reader import LogAccess
from poise.kafka.partition_ownership import PartitionOwnership
from poise.kafka.topic_identities import TopicIdentities, TopicMetadata
from poise.liveness import Component, Liveness
from poise.settings import MeshSettings


class Failing(PartitionOwnership):
    """An ownership whose first membership ends with an error."""

    def __init__(self, error: Exception) -> None:
        settings = MeshSettings(broker="127.0.0.1:1")
        connection = Connection.of(settings)
        logs = LogAccess(connection, KafkaAdmin(connection), Liveness(), TopicIdentities())
        super().__init__(logs, settings, "a.topic", "a.group", self._idle)
        self.error: Exception | None = error
        self.again = asyncio.Event()

    async def _idle(self, partition: int, component: Component) -> None:
        raise AssertionError(partition, component)

    async def _join(self, component: Component) -> None:
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        component.progress()
        self.again.set()
        await asyncio.Event().wait()


@pytest.mark.parametrize("error", [KafkaError("gone"), OSError("too many open files"), AssertionError("theirs")])
async def test_it_joins_again_after_any_error(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partition_ownership, "MAX_RETRY_BACKOFF", 0.0)
    async with Failing(error) as failing:
        await asyncio.wait_for(failing.again.wait(), 10)


class Consumer:
    """As much of a consumer as a recreated topic affects."""

    begun = 0

    def __init__(self, **_: object) -> None: ...

    def subscribe(self, *_: object, **__: object) -> None: ...

    async def start(self) -> None:
        Consumer.begun += 1

    async def getmany(self, *_: object) -> None: ...

    async def stop(self) -> None: ...


async def test_it_joins_again_when_the_topic_is_recreated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partition_ownership, "AIOKafkaConsumer", Consumer)
    monkeypatch.setattr(partition_ownership, "POLL_INTERVAL", 0.0)
    settings = MeshSettings(broker="127.0.0.1:1")
    identities, connection = TopicIdentities(), Connection.of(settings)
    logs = LogAccess(connection, KafkaAdmin(connection), Liveness(), identities)

    async def work(_partition: int, _component: Component) -> None: ...

    async with PartitionOwnership(logs, settings, "a.topic", "a.group", work), asyncio.timeout(10):
        for number, id_ in enumerate(("one", "one", "two", "three")):
            identities.update({"a.topic": TopicMetadata(id_, 1)})
            wanted = max(1, number)
            while wanted > Consumer.begun:  # noqa: ASYNC110 - it starts in its own task
                await asyncio.sleep(0)
    assert Consumer.begun == 3


async def test_work_that_keeps_failing_unexpectedly_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if it makes progress before each failure."""
    monkeypatch.setattr(partition_ownership, "RETRY_BACKOFF", 0.0)
    monkeypatch.setattr(partition_ownership, "MAX_RETRY_BACKOFF", 0.0)
    now = 0.0
    liveness, begun = Liveness(lambda: now), 0
    liveness.record_broker(answering=True)
    settings = MeshSettings(broker="127.0.0.1:1")
    connection = Connection.of(settings)
    logs = LogAccess(connection, KafkaAdmin(connection), liveness, TopicIdentities())

    async def work(_partition: int, component: Component) -> None:
        nonlocal begun
        begun += 1
        component.progress()
        raise KeyError("a bug")

    owner = PartitionOwnership(logs, settings, "a.topic", "a.group", work)
    await owner.on_partitions_assigned({TopicPartition("a.topic", 0)})
    reasons = []
    for now in range(0, 200, 4):  # noqa: B007 - the clock reads it
        wanted = begun + 2
        while begun < wanted:  # noqa: ASYNC110 - it starts in its own task
            await asyncio.sleep(0)
        reasons.append(liveness.check())
    await owner.on_partitions_revoked({TopicPartition("a.topic", 0)})
    first = next(number for number, reason in enumerate(reasons) if reason is not None)
    assert first == 31, "after 120 s"
    assert "made no progress for 124 s although the broker answers: KeyError: 'a bug'" in str(reasons[first])


async def test_a_member_that_keeps_failing_unexpectedly_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partition_ownership, "MAX_RETRY_BACKOFF", 0.0)
    now, begun = 0.0, 0
    liveness = Liveness(lambda: now)
    liveness.record_broker(answering=True)
    settings = MeshSettings(broker="127.0.0.1:1")
    connection = Connection.of(settings)
    logs = LogAccess(connection, KafkaAdmin(connection), liveness, TopicIdentities())

    class Failing(PartitionOwnership):
        async def _join(self, component: Component) -> None:
            nonlocal begun
            begun += 1
            component.progress()
            raise KeyError("a bug")

    async def work(_partition: int, _component: Component) -> None: ...

    reasons = []
    async with Failing(logs, settings, "a.topic", "a.group", work):
        for now in range(0, 200, 4):  # noqa: B007 - the clock reads it
            wanted = begun + 2
            while begun < wanted:  # noqa: ASYNC110 - it starts in its own task
                await asyncio.sleep(0)
            reasons.append(liveness.check())
    assert [number for number, reason in enumerate(reasons) if reason is not None][:1] == [31], "after 120 s"
