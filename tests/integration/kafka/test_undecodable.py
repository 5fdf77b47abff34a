"""Batches that a real broker accepts and no client decodes: each becomes one dead letter, and is skipped."""

import asyncio
from collections.abc import Callable

import pytest
from aiokafka.admin import NewTopic
from batch_kit import DAMAGED, batch, flip, raw_producer
from integration_kit import PlainKafkaClient, serving, settings_for_another_process

from poise.contracts import Answer, Ask
from poise.contracts.topics import ASK_INTERACTIVE, CANCEL, REPLIES, dead_letter_topic_name, retry_topic_name
from poise.dead_letters.admin import DeadLetterAdmin
from poise.dead_letters.filter import DeadLetterFilter
from poise.dead_letters.redrive_plan import RedriveOptions
from poise.errors import RunCancelledError
from poise.kafka.record import Record
from poise.rpc.client import CallOptions
from poise.settings import MeshSettings
from poise.stack.kafka import Kafka
from poise.worker.context import Context
from poise.worker.runtime import WorkerRuntime
from poise.worker.tier import Tier

pytestmark = pytest.mark.integration

GOOD = b'{"question": "fine?"}'


async def answer(_ask: Ask, context: Context) -> Answer:
    return Answer(run_id=context.run, text="fine", rung="primary")


ORCHESTRATION = Tier("orchestration", {Ask: answer})


async def read_dead_letters(mesh: WorkerRuntime, topic: str, partition: int, first: int) -> list[Record]:
    """Return the dead letters of the batch that begins at an offset."""
    letters = await mesh.logs.read_topic(dead_letter_topic_name("orchestration"))
    batches = [one for one in letters if (one.header("poise-dead-batch") or "").startswith(f"{first}-")]
    at = f"{topic}/{partition}/"
    return [one for one in batches if (one.header("poise-dead-position") or "").startswith(at)]


async def ask_behind(plain_client: PlainKafkaClient, bootstrap: str, topic: str, partition: int) -> str:
    """Ask in a partition; return the text of the answer."""
    headers = [("reply_to", plain_client.topic.encode()), ("correlation_id", b"behind")]
    async with raw_producer(bootstrap) as producer:
        await producer.write(topic, partition, batch([GOOD], headers=headers))
    while (reply := await plain_client.any_reply()).header("correlation_id") != "behind":
        pass
    return Answer.parse(reply.value or b"").text


@pytest.mark.parametrize("make", DAMAGED.values(), ids=DAMAGED.keys())
async def test_batches_that_a_broker_accepts_and_no_client_decodes(
    mesh_settings: MeshSettings, plain_client: PlainKafkaClient, make: Callable[[], bytes]
) -> None:
    raw = make()
    async with serving(mesh_settings, ORCHESTRATION) as mesh:
        async with raw_producer(mesh_settings.broker) as producer:
            first = await producer.write(ASK_INTERACTIVE.name, 3, raw)
        assert await ask_behind(plain_client, mesh_settings.broker, ASK_INTERACTIVE.name, 3) == "fine"
        (letter,) = await read_dead_letters(mesh, ASK_INTERACTIVE.name, 3, first)
    assert letter.value is not None
    assert letter.value[16:] == raw[16:], "unchanged, except for the offset and the epoch that the broker sets"
    assert letter.header("poise-dead-error") == "UndecodableBatchError"
    assert letter.header("poise-dead-topic") == ASK_INTERACTIVE.name
    assert f"records {first} to " in (letter.header("poise-dead-message") or "")
    position, offsets = letter.header("poise-dead-position") or "", letter.header("poise-dead-batch") or ""
    assert position.rpartition("/")[2] == offsets.partition("-")[2]


async def test_a_byte_changed_on_disk(
    mesh_settings: MeshSettings, plain_client: PlainKafkaClient, kafka_node: Kafka
) -> None:
    topic = ASK_INTERACTIVE.name
    async with raw_producer(mesh_settings.broker) as producer:
        first = await producer.write(topic, 4, batch([b"{}", b"{}", b"{}"]))
    flip(kafka_node.directory / "data", topic, 4, first)
    async with serving(mesh_settings, ORCHESTRATION) as mesh:
        # The last batch in its partition: only its header tells where to continue.
        await until_dead_lettered(mesh, topic, 4, first)
        assert await ask_behind(plain_client, mesh_settings.broker, topic, 4) == "fine"
    async with serving(mesh_settings, ORCHESTRATION) as mesh:  # another worker, from the committed offset
        assert await ask_behind(plain_client, mesh_settings.broker, topic, 4) == "fine"
        (letter,) = await read_dead_letters(mesh, topic, 4, first)
    assert letter.header("poise-dead-batch") == f"{first}-{first + 2}"
    assert "checksum" in (letter.header("poise-dead-message") or "")


async def until_dead_lettered(mesh: WorkerRuntime, topic: str, partition: int, first: int) -> None:
    while not await read_dead_letters(mesh, topic, partition, first):
        pass


async def test_on_a_topic_of_delayed_retries(mesh_settings: MeshSettings) -> None:
    topic = retry_topic_name("orchestration", 10.0)
    async with serving(mesh_settings, ORCHESTRATION) as mesh:
        async with raw_producer(mesh_settings.broker) as producer:
            first = await producer.write(topic, 1, DAMAGED["two frames"]())
        await until_dead_lettered(mesh, topic, 1, first)


async def test_an_undecodable_batch_is_not_redriven(mesh_settings: MeshSettings) -> None:
    async with serving(mesh_settings, ORCHESTRATION) as mesh:
        async with raw_producer(mesh_settings.broker) as producer:
            first = await producer.write(ASK_INTERACTIVE.name, 5, DAMAGED["two frames"]())
        await until_dead_lettered(mesh, ASK_INTERACTIVE.name, 5, first)
        (letter,) = await read_dead_letters(mesh, ASK_INTERACTIVE.name, 5, first)
        chosen = DeadLetterFilter(ids=frozenset({f"orchestration/0/{letter.offset}"}))
        outcomes = [
            one async for one in DeadLetterAdmin(mesh.logs, mesh.settings.tenant).redrive(chosen, RedriveOptions())
        ]
    assert [(one.sent, "cannot be decoded" in (one.refused or "")) for one in outcomes] == [(None, True)]


# -- logs that are read completely, without a group -------------------------------------------------------------------


async def test_an_undecodable_batch_in_a_log_with_many_readers(mesh_settings: MeshSettings) -> None:
    """Check that only the first reader dead-letters the batch."""
    topic = f"log-{mesh_settings.instance}"
    async with WorkerRuntime(mesh_settings, tier="client") as mesh:
        await mesh.admin._client.create_topics([NewTopic(topic, 1, 1)])
    async with raw_producer(mesh_settings.broker) as producer:
        await producer.write(topic, 0, batch([b"before"]))
        await producer.write(topic, 0, DAMAGED["two frames"]())
        await producer.write(topic, 0, batch([b"behind"]))
    for _ in range(3):
        async with WorkerRuntime(settings_for_another_process(mesh_settings), tier="client") as mesh:
            assert [record.value for record in await mesh.logs.read_topic(topic)] == [b"before", b"behind"]
            await until_dead_lettered(mesh, topic, 0, 1)
    async with WorkerRuntime(settings_for_another_process(mesh_settings), tier="client") as mesh:
        assert len(await read_dead_letters(mesh, topic, 0, 1)) == 1


async def test_cancellations_and_replies_behind_an_undecodable_batch_are_read(mesh_settings: MeshSettings) -> None:
    begun = asyncio.Event()

    async def wait(_ask: Ask, _context: Context) -> Answer:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with (
        serving(mesh_settings, Tier("orchestration", {Ask: wait})),
        WorkerRuntime(settings_for_another_process(mesh_settings), tier="client") as client,
    ):
        async with raw_producer(mesh_settings.broker) as producer:
            for number in range(REPLIES.partitions):
                await producer.write(REPLIES.name, number, DAMAGED["zstd bomb"]())
            await producer.write(CANCEL.name, 0, DAMAGED["zstd bomb"]())
        call = asyncio.create_task(client.rpc.call(Ask(question="?"), CallOptions(run="a run")))
        await begun.wait()
        await client.rpc.cancel("a run")
        with pytest.raises(RunCancelledError):
            await call
