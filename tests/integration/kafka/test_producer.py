"""The producer: records that are too large are rejected before they are sent, and no error prevents later writes."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType, SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import TopicAuthorizationFailedError
from integration_kit import until

from poise.contracts.topics import SPANS
from poise.errors import RecordTooLargeError, TerminalError, UnavailableError
from poise.kafka import producer, replacing_producer
from poise.kafka.producer import BATCH_SIZES
from poise.kafka.record_batch import MAX_HEADERS
from poise.settings import MeshSettings
from poise.worker.runtime import WorkerRuntime

pytestmark = pytest.mark.integration

SMALL = 20_000
FEW = MappingProxyType({"max.message.bytes": str(SMALL)})


@asynccontextmanager
async def admin(bootstrap: str) -> AsyncIterator[AIOKafkaAdminClient]:
    client = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await client.start()
    try:
        yield client
    finally:
        await client.close()


async def topic(bootstrap: str, name: str = "", configs: Mapping[str, str] = FEW) -> str:
    """Create a topic of one partition. Without the prefix `poise.` in its name it is a foreign topic."""
    name = name or f"mine-{uuid4().hex[:8]}"
    async with admin(bootstrap) as client:
        created: Any = await client.create_topics([NewTopic(name, 1, 1, topic_configs=dict(configs))])
        assert not any(code for _, code, *_ in created.topic_errors), created
        # The broker passes the request to the controller, and gets the configuration of a new topic a moment later.
        async with asyncio.timeout(10):
            while not await is_described(client, name):  # noqa: ASYNC110 - another process learns it
                await asyncio.sleep(0.02)
    return name


async def is_described(client: AIOKafkaAdminClient, name: str) -> bool:
    """Return whether the broker knows a topic's configuration."""
    responses: list[Any] = await client.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)])
    return not any(resource[0] for response in responses for resource in response.resources)


def custom_topic() -> str:
    """Return the name of a custom tier's topic."""
    return f"poise.t{uuid4().hex[:8]}.requests.interactive"


async def configure(bootstrap: str, name: str, **configs: str) -> None:
    resource = ConfigResource(ConfigResourceType.TOPIC, name, {k.replace("_", "."): v for k, v in configs.items()})
    async with admin(bootstrap) as client:
        await client.alter_configs([resource])


async def test_each_record_of_a_batch_has_its_own_timestamp(
    mesh_settings: MeshSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Check the timestamps: the id of a run that came by Kafka, which a cancel needs, is derived from them."""
    now = itertools.count(1_790_000_000)
    name = await topic(mesh_settings.broker, configs={})
    async with WorkerRuntime(mesh_settings, tier="client") as mesh:
        with monkeypatch.context() as patched:
            patched.setattr(producer, "time", SimpleNamespace(time=lambda: next(now)))
            sending = [mesh.producer.records.send(name, b"x", key=b"k", headers=[]) for _ in range(50)]
            landed = {at.offset: at.timestamp for at in await asyncio.gather(*sending)}
        written = {record.offset: record.timestamp for record in await mesh.logs.read_topic(name)}
    assert len(set(landed.values())) == len(landed)
    assert landed == written


async def send(mesh: WorkerRuntime, name: str, size: int = 10) -> int:
    return (await mesh.producer.records.send(name, b"x" * size, key=b"k", headers=[])).offset


def main(mesh: WorkerRuntime) -> AIOKafkaProducer:
    """Return the current producer for Poise's own topics."""
    current = mesh.producer.records._producers[True, BATCH_SIZES[0]].current
    assert current is not None
    return current


@pytest.fixture
async def mesh(mesh_settings: MeshSettings) -> AsyncIterator[WorkerRuntime]:
    async with WorkerRuntime(mesh_settings.model_copy(update={"spans": False}), tier="client") as found:
        yield found


@pytest.fixture
def replacements(caplog: pytest.LogCaptureFixture) -> Callable[[], int]:
    """Return a function that counts how often a producer was replaced."""
    caplog.set_level("WARNING", logger=replacing_producer.__name__)
    return lambda: sum("is replaced" in record.getMessage() for record in caplog.records)


async def test_records_with_many_headers_can_be_decoded_by_a_consumer(kafka: str, mesh: WorkerRuntime) -> None:
    """Check that such records do not share a batch, because a consumer limits the headers of a batch."""
    name = await topic(kafka, configs={})
    counts = [1, 5_000, 100, 101, 6_000, 7_000, 3, 101, MAX_HEADERS]
    await asyncio.gather(
        *(mesh.producer.records.send(name, b"", key=b"k", headers=[("h", b"")] * count) for count in counts)
    )
    records = await mesh.logs.read_topic(name)
    assert [record.undecodable for record in records] == [None] * len(counts)
    assert sorted(len(record.headers) for record in records) == sorted(counts)


# -- sizes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "custom"])
async def test_a_record_that_is_too_large_is_rejected_before_it_is_sent(
    kafka: str, mesh: WorkerRuntime, replacements: Callable[[], int], name: str
) -> None:
    name = await topic(kafka, custom_topic() if name else "")
    assert await send(mesh, name) == 0
    for _ in range(3):
        with pytest.raises(RecordTooLargeError, match=rf"5\d{{4}} bytes is larger than {name} takes.* {SMALL} at most"):
            await send(mesh, name, 50_000)
    with pytest.raises(RecordTooLargeError):
        await mesh.producer.records.send(name, b"x", key=b"k", headers=[("h", b"x" * SMALL)])
    assert await send(mesh, name) == 1
    assert replacements() == 0


@pytest.mark.parametrize("name", ["", "custom"])
async def test_a_record_that_fits_alone_fits_with_others(
    kafka: str, mesh: WorkerRuntime, replacements: Callable[[], int], name: str
) -> None:
    name = await topic(kafka, custom_topic() if name else "")
    offsets = await asyncio.gather(*(send(mesh, name, 1_000) for _ in range(300)))
    assert sorted(offsets) == list(range(300))
    room = SMALL - 200  # the estimated size is some twenty bytes too high
    assert [await send(mesh, name, room) for _ in range(2)] == [300, 301]
    assert replacements() == 0


async def test_an_operator_may_change_a_size_limit(
    kafka: str, mesh: WorkerRuntime, replacements: Callable[[], int]
) -> None:
    """Lower the limit: it is fetched again, the producer is replaced, and what fits is written."""
    name = await topic(kafka, custom_topic(), {})
    await send(mesh, name)
    await configure(kafka, name, max_message_bytes=str(SMALL))
    outcomes = await asyncio.gather(
        *(send(mesh, name, 1_000) for _ in range(50)),
        send(mesh, name, 50_000),
        *(send(mesh, name, 1_000) for _ in range(50)),
        return_exceptions=True,
    )
    refused = [outcome for outcome in outcomes if not isinstance(outcome, int)]
    assert [type(error) for error in refused] == [RecordTooLargeError]
    assert sorted(outcome for outcome in outcomes if isinstance(outcome, int)) == list(range(1, 101))
    assert replacements() == 1
    await configure(kafka, name, max_message_bytes="1048576")
    await mesh.producer.records.limits.load([name])
    assert await send(mesh, name, 50_000) == 101


async def test_a_broker_that_does_not_report_a_size_limit(
    kafka: str, mesh: WorkerRuntime, replacements: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Check that one rejected record reveals the limit, and that a rejection because of the batch is distinguished."""

    async def may_not_be_read(_topics: object) -> Mapping[str, int]:
        return {}

    monkeypatch.setattr(mesh.producer.records.limits, "_fetch", may_not_be_read)
    monkeypatch.setattr(mesh.producer.records.limits._lookup, "_fetch", may_not_be_read)
    name = await topic(kafka, custom_topic())
    assert await send(mesh, name) == 0
    offsets = await asyncio.gather(*(send(mesh, name, 1_000) for _ in range(100)))
    assert sorted(offsets) == list(range(1, 101))
    for _ in range(3):
        with pytest.raises(RecordTooLargeError):
            await send(mesh, name, 50_000)
    assert await send(mesh, name) == 101
    assert replacements() <= 3


# -- replacement -------------------------------------------------------------------------------------------------------


async def test_a_sequence_gap_causes_one_replacement_for_all(
    kafka: str, mesh: WorkerRuntime, replacements: Callable[[], int]
) -> None:
    name = await topic(kafka, custom_topic(), {})
    await send(mesh, name)
    before: Any = main(mesh)
    before._txn_manager.increment_sequence_number(TopicPartition(name, 0), 5)  # like a batch that was never written
    offsets = await asyncio.gather(*(send(mesh, name) for _ in range(200)))
    assert sorted(offsets) == list(range(1, 201))
    after: Any = main(mesh)
    assert after._txn_manager.producer_id != before._txn_manager.producer_id
    assert replacements() == 1
    await until(lambda: before._closed and not mesh.producer.records._producers[True, BATCH_SIZES[0]]._closing)
    assert before._sender.sender_task.done()


async def test_a_sender_that_ended_is_replaced(
    kafka: str, mesh: WorkerRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """End aiokafka's sender task with an error, as a bug may: from then on every send raises."""
    name = await topic(kafka, custom_topic(), {})
    await send(mesh, name)
    sender: Any = main(mesh)._sender

    async def fails() -> None:
        raise RuntimeError("a bug of the client")

    monkeypatch.setattr(sender, "_maybe_wait_for_pid", fails)
    outcomes = await asyncio.gather(*(send(mesh, name) for _ in range(20)), return_exceptions=True)
    unknown = [outcome for outcome in outcomes if not isinstance(outcome, int)]
    assert all(type(error) is UnavailableError and error.fault().retryable for error in unknown)
    assert sender.sender_task.done()
    assert await send(mesh, name) >= 20 - len(unknown)


async def test_errors_of_a_foreign_topic_do_not_affect_poises_own_topics(
    kafka: str, mesh: WorkerRuntime, replacements: Callable[[], int]
) -> None:
    """Write to a compacted topic, which rejects records without a key, such as replies."""
    name = await topic(kafka, configs={"cleanup.policy": "compact"})
    before = main(mesh)
    for _ in range(3):
        with pytest.raises(TerminalError, match=name):
            await mesh.producer.records.send(name, b"x", key=None, headers=[])
    assert await send(mesh, name) == 0
    assert main(mesh) is before
    assert replacements() == 0
    assert mesh.producer.records.problem() is None


async def test_a_forbidden_topic_is_not_tried_with_each_record(
    kafka: str, mesh: WorkerRuntime, replacements: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = await topic(kafka, custom_topic(), {})
    await send(mesh, name)
    sent: Any = AIOKafkaProducer.send

    async def forbidden(self: AIOKafkaProducer, to: str, *record: Any, **more: Any) -> Any:
        if to != name:
            return await sent(self, to, *record, **more)
        refused = asyncio.get_running_loop().create_future()
        refused.set_exception(TopicAuthorizationFailedError(name))
        return refused

    with monkeypatch.context() as patched:
        patched.setattr(AIOKafkaProducer, "send", forbidden)
        for _ in range(10):
            with pytest.raises(TerminalError, match=name):
                await send(mesh, name)
            await send(mesh, SPANS.name)
    assert replacements() == 1


async def test_a_disconnecting_process_sends_nothing(mesh_settings: MeshSettings) -> None:
    async with WorkerRuntime(mesh_settings, tier="client") as mesh:
        pass
    with pytest.raises(UnavailableError):
        await send(mesh, SPANS.name)


async def test_rejected_spans_do_not_prevent_others_from_being_written(mesh: WorkerRuntime) -> None:
    run = uuid4().hex.encode()
    bodies = [b"{}" + b" " * size for size in (0, SPANS.max_bytes, 1)]
    lost = await mesh.producer.records.send_all(SPANS.name, [(run, body) for body in bodies], [])
    assert [type(error) for error in lost] == [RecordTooLargeError]
    assert [record.value for record in await mesh.logs.read_key(SPANS.name, run.decode())] == [bodies[0], bodies[2]]
