"""Headers and record times from clients of other languages: which are returned, and which are ignored."""

import time
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from integration_kit import PlainKafkaClient, serving

from poise.contracts import Answer, Ask, Completion, Delta, End, Fault, Generate
from poise.contracts.generate import ChatMessage
from poise.contracts.run_id import derive_run_id
from poise.contracts.topics import ASK_BATCH, ASK_INTERACTIVE, dead_letter_topic_name
from poise.errors import TerminalError
from poise.kafka.record import Record
from poise.rpc.client import CallOptions
from poise.settings import MeshSettings
from poise.telemetry import inject
from poise.worker.context import Context
from poise.worker.tier import Tier

pytestmark = pytest.mark.integration

EVERY_BYTE = bytes(range(256))
MOST = b"\xff\x00" * 4_096
"""The longest correlation id."""


async def answer(ask: Ask, context: Context) -> Answer:
    """Stream the text of a call, so that the stream's address passes through the mesh."""
    if ask.question == "break":
        raise TerminalError("broken")
    chat = Generate(messages=(ChatMessage(role="user", content=ask.question),))
    written = await context.call(chat, step="generate", stream=True)
    return Answer(run_id=context.run, text=written.text, rung="primary", timings={"left": context.remaining()})


async def write(request: Generate, context: Context) -> Completion:
    text = request.messages[0].content
    if context.stream_writer is not None:
        await context.stream_writer.write(text)
    return Completion(text=text, model="m", backend="b", finish_reason="stop")


ORCHESTRATION = Tier("orchestration", {Ask: answer})
INFERENCE = Tier("inference", {Generate: write})


@pytest.mark.parametrize("correlation_id", [b"", EVERY_BYTE, MOST], ids=["empty", "every byte", "as long as may be"])
async def test_a_correlation_id_is_returned_unchanged(
    mesh_settings: MeshSettings, plain_client: PlainKafkaClient, correlation_id: bytes
) -> None:
    """Check answers, streams, faults of every origin and dead letters."""
    mine: dict[str, Any] = {"correlation_id": correlation_id}
    async with serving(mesh_settings, ORCHESTRATION) as mesh, serving(mesh_settings, INFERENCE):
        streamed: dict[str, Any] = mine | {"poise_reply_partition": "1"}
        place = plain_client.topic.encode() + b"/1"
        for to in (place, place + b"/" + correlation_id):
            sent = await plain_client.send(
                ASK_INTERACTIVE.name, b'{"question": "word"}', **streamed, poise_stream_to=to
            )
            kinds = [(await plain_client.reply(sent)).header("poise-kind") for _ in range(3)]
            assert kinds == [Delta.kind, End.kind, Answer.kind]
        wrong: tuple[tuple[bytes, dict[str, Any]], ...] = (
            (b'{"question": "break"}', {}),  # by the handler
            (b"{not json", {}),  # by the body
            (b'{"question": "x"}', {"poise_deadline": "soon"}),  # by the headers
            (b'{"question": "x"}', {"poise_kind": "ask/2", "poise_deadline": _in(1.0)}),  # by a newer version
        )
        for value, headers in wrong:
            sent = await plain_client.send(ASK_INTERACTIVE.name, value, **mine, **headers)
            assert (await plain_client.reply(sent)).header("poise-kind") == Fault.kind
            letters = await mesh.logs.read_topic(dead_letter_topic_name("orchestration"))
            (letter,) = [r for r in letters if r.header("poise-origin") == str(sent.position)]
            assert letter.raw_header("correlation_id") == correlation_id


def _in(seconds: float) -> str:
    return str(round((time.time() + seconds) * 1_000))


async def test_null_headers_are_absent_the_last_counts_and_bad_trace_headers_are_ignored(
    mesh_settings: MeshSettings, plain_client: PlainKafkaClient
) -> None:
    headers: list[tuple[str, bytes | None]] = [
        *((name, None) for name in ("poise-deadline", "poise-seq", "poise-redrives", "content-type")),
        ("poise-reply-partition", b"99"),
        ("poise-reply-partition", None),
        ("reply_to", b"nowhere"),
        ("reply_to", plain_client.topic.encode()),
        ("correlation_id", b"mine"),
        ("poise-min-epoch", None),
        ("traceparent", b"\xff" * 20_000),
        ("tracestate", b"x" * 20_000),
        ("baggage", b"secret=" + b"x" * 20_000),
        ("theirs", None),
    ]
    carried: list[dict[str, str]] = []

    async def look(ask: Ask, context: Context) -> Answer:
        carried.append(inject())
        return Answer(run_id=context.run, text=ask.question, rung="primary")

    async with serving(mesh_settings, Tier("orchestration", {Ask: look})) as mesh:
        await mesh.producer.records.send(ASK_INTERACTIVE.name, b'{"question": "x"}', key=b"k", headers=headers)
        reply = await plain_client.any_reply()
        await mesh.producer.records.send(ASK_INTERACTIVE.name, b"{}", key=b"k", headers=headers)
        await plain_client.any_reply()
        letters = await mesh.logs.read_topic(dead_letter_topic_name("orchestration"))
    assert (reply.header("poise-kind"), reply.raw_header("correlation_id")) == (Answer.kind, b"mine")
    assert "xxx" not in str(reply.headers) + str(carried)
    (letter,) = [one for one in letters if ("theirs", None) in one.headers]
    assert list(letter.headers)[: len(headers)] == headers  # a null one stays null


@pytest.mark.parametrize(
    "milliseconds",
    [1, round(time.time()), round(time.time() * 1_000) + 3_000_000],
    ids=["of 1970", "seconds", "50 minutes ahead"],
)
async def test_an_invalid_record_time_is_replaced_by_the_time_of_reading(
    mesh_settings: MeshSettings, plain_client: PlainKafkaClient, milliseconds: int
) -> None:
    """Check that the deadline counts from the time of reading, and that each delivery gets the same run."""
    name = uuid4().hex.encode()
    headers = [("reply_to", plain_client.topic.encode()), ("correlation_id", name)]
    async with (
        AIOKafkaProducer(bootstrap_servers=mesh_settings.broker) as producer,
        serving(mesh_settings, ORCHESTRATION),
        serving(mesh_settings, INFERENCE),
    ):
        landed = await producer.send_and_wait(
            ASK_INTERACTIVE.name, b'{"question": "x"}', timestamp_ms=milliseconds, headers=headers
        )
        told = await plain_client.reply(Record(landed.topic, 0, 0, 0.0, None, b"", headers))
        later = [*headers, ("poise-deadline", _in(200.0).encode())]
        await producer.send_and_wait(
            ASK_INTERACTIVE.name, b'{"question": "x"}', timestamp_ms=milliseconds, headers=later
        )
        given = await plain_client.reply(Record(landed.topic, 0, 0, 0.0, None, b"", headers))
    first, second = Answer.parse(told.value or b""), Answer.parse(given.value or b"")
    assert first.run_id == derive_run_id(landed.topic, landed.partition, landed.offset, milliseconds / 1_000)
    assert 0 < first.timings["left"] <= ASK_INTERACTIVE.deadlines.default
    assert ASK_INTERACTIVE.deadlines.default < second.timings["left"] <= 200


async def test_a_topic_with_log_append_time_is_read_like_any_other(
    mesh_settings: MeshSettings, plain_client: PlainKafkaClient
) -> None:
    async with serving(mesh_settings, ORCHESTRATION) as mesh, serving(mesh_settings, INFERENCE):
        client = mesh.admin._client

        async def times(kind: str) -> None:
            setting = ConfigResource(ConfigResourceType.TOPIC, ASK_BATCH.name, {"message.timestamp.type": kind})
            await client.alter_configs([setting])

        await times("LogAppendTime")
        try:
            sent = await plain_client.send(ASK_BATCH.name, b'{"question": "x"}')
            told = Answer.parse((await plain_client.reply(sent)).value or b"")
            called = await mesh.rpc.call(Ask(question="called"), CallOptions(topic=ASK_BATCH, step="ask"))
        finally:
            await times("CreateTime")
    assert told.run_id == derive_run_id(*sent.identity)
    assert called.text == "called"
