"""Partition ownership: retriable errors are retried, any other ends the process; a recreated topic is joined again."""

import asyncio

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import GroupAuthorizationFailedError, KafkaConnectionError, KafkaError, UnknownError

from poise.errors import MissingTopicError, RetryableError, SetupError, TerminalError, UnavailableError
from poise.kafka import partition_ownership
from poise.kafka.admin import KafkaAdmin
from poise.kafka.connection import Connection
from poise.kafka.log_reader import LogAccess
from poise.kafka.partition_ownership import PartitionOwnership
from poise.kafka.topic_identities import TopicIdentities, TopicMetadata
from poise.kafka.transactions import ProducerFencedError
from poise.liveness import Component, Liveness
from poise.settings import MeshSettings


def access(settings: MeshSettings, liveness: Liveness, identities: TopicIdentities | None = None) -> LogAccess:
    """Return the access to a broker that does not exist."""
    connection = Connection.of(settings)
    return LogAccess(connection, KafkaAdmin(connection), liveness, identities or TopicIdentities())


class Failing(PartitionOwnership):
    """An ownership whose first membership ends with an error."""

    def __init__(self, error: Exception) -> None:
        settings = MeshSettings(broker="127.0.0.1:1")
        self.liveness = Liveness()
        super().__init__(access(settings, self.liveness), settings, "a.topic", "a.group", self._idle)
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


RETRIABLE = [KafkaConnectionError("gone"), UnknownError("-1"), TimeoutError(), UnavailableError("no broker")]
FATAL = [
    KafkaError("a bug of the client"),
    GroupAuthorizationFailedError("a.group"),
    OSError("too many open files"),
    AssertionError("theirs"),
    KeyError("a bug"),
    SetupError("a newer worker wrote this snapshot"),
    TerminalError("too large"),
]


@pytest.mark.parametrize("error", RETRIABLE)
async def test_it_joins_again_after_a_retriable_error(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partition_ownership, "MAX_RETRY_BACKOFF", 0.0)
    async with Failing(error) as failing:
        await asyncio.wait_for(failing.again.wait(), 10)
        assert failing.liveness.check() is None


@pytest.mark.parametrize("error", FATAL)
async def test_any_other_error_of_the_membership_ends_the_process(error: Exception) -> None:
    async with Failing(error) as failing:
        with pytest.raises(SetupError) as ended:
            await asyncio.wait_for(failing.liveness.watch(), 10)
        assert not failing.again.is_set()
    assert "member of a.group has failed: " in str(ended.value)
    assert str(error) in str(ended.value)


class OwnedPartitionsConsumer:
    """The part of a consumer that a recreated topic affects."""

    begun = 0
    _group_instance_id = None
    _client = None

    def __init__(self, **_: object) -> None: ...

    def subscribe(self, *_: object, **__: object) -> None: ...

    async def start(self) -> None:
        OwnedPartitionsConsumer.begun += 1

    async def getmany(self, *_: object) -> None: ...

    async def stop(self) -> None: ...


async def test_it_joins_again_when_the_topic_is_recreated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partition_ownership, "AIOKafkaConsumer", OwnedPartitionsConsumer)
    monkeypatch.setattr(partition_ownership, "POLL_INTERVAL", 0.0)
    settings = MeshSettings(broker="127.0.0.1:1")
    identities = TopicIdentities()
    logs = access(settings, Liveness(), identities)

    async def work(_partition: int, _component: Component) -> None: ...

    async with PartitionOwnership(logs, settings, "a.topic", "a.group", work), asyncio.timeout(10):
        for number, id_ in enumerate(("one", "one", "two", "three")):
            identities.update({"a.topic": TopicMetadata(id_, 1)})
            wanted = max(1, number)
            while wanted > OwnedPartitionsConsumer.begun:  # noqa: ASYNC110 - it starts in its own task
                await asyncio.sleep(0)
    assert OwnedPartitionsConsumer.begun == 3


@pytest.mark.parametrize(
    "error",
    [*RETRIABLE, RetryableError("later"), ProducerFencedError("fenced"), MissingTopicError("no such topic")],
)
async def test_work_is_restarted_after_a_retriable_error(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    for backoff in ("RETRY_BACKOFF", "MAX_RETRY_BACKOFF", "FENCED_BACKOFF"):
        monkeypatch.setattr(partition_ownership, backoff, 0.0)
    settings, liveness = MeshSettings(broker="127.0.0.1:1"), Liveness()
    restarted: asyncio.Future[Component] = asyncio.get_running_loop().create_future()
    begun = 0

    async def work(_partition: int, component: Component) -> None:
        nonlocal begun
        begun += 1
        if begun == 1:
            raise error
        restarted.set_result(component)
        await asyncio.Event().wait()

    owner = PartitionOwnership(access(settings, liveness), settings, "a.topic", "a.group", work)
    await owner.on_partitions_assigned({TopicPartition("a.topic", 0)})
    component = await asyncio.wait_for(restarted, 10)
    assert component.blocked_by, "the reason is known until it makes progress"
    assert liveness.check() is None
    await owner.on_partitions_revoked({TopicPartition("a.topic", 0)})
    assert liveness.check() is None


@pytest.mark.parametrize("error", FATAL)
async def test_any_other_error_of_the_work_ends_the_process(error: Exception) -> None:
    """Check that the process ends at once, even if the work made progress before."""
    settings, liveness = MeshSettings(broker="127.0.0.1:1"), Liveness()
    begun = 0

    async def work(_partition: int, component: Component) -> None:
        nonlocal begun
        begun += 1
        component.progress()
        raise error

    owner = PartitionOwnership(access(settings, liveness), settings, "a.topic", "a.group", work)
    await owner.on_partitions_assigned({TopicPartition("a.topic", 3)})
    with pytest.raises(SetupError) as ended:
        await asyncio.wait_for(liveness.watch(), 10)
    await owner.on_partitions_revoked({TopicPartition("a.topic", 3)})
    assert begun == 1
    assert "work for a.topic/3 has failed: " in str(ended.value)
    assert str(error) in str(ended.value)
