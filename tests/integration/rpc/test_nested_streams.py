"""Streams across two tiers.

Text goes directly to the caller, rejected text is reset, and any Kafka client can read the stream.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from integration_kit import PlainKafkaClient, serving
from stream_kit import PIECES, TEXT, StreamReading, generate, run_of, write

from poise import Poise
from poise.contracts import Answer, Ask, Completion, Delta, End, Fault, Generate, Reset, StreamPosition
from poise.contracts.topics import ASK_INTERACTIVE
from poise.errors import DeadlineExceededError, FaultError, RetryableError, TerminalError
from poise.kafka.record import Record
from poise.rpc.client import CallOptions
from poise.rpc.stream_reader import RESTARTED, position_of
from poise.rpc.stream_writer import DIFFERS
from poise.settings import MeshSettings
from poise.worker.context import Context
from poise.worker.runtime import WorkerRuntime
from poise.worker.tier import Tier

pytestmark = pytest.mark.integration


@asynccontextmanager
async def answering(settings: MeshSettings, *, accepts: bool, writes: object = write) -> AsyncIterator[WorkerRuntime]:
    """Run an inference tier and an orchestration tier that accepts its text or replaces it."""

    async def answer(_ask: Ask, context: Context) -> Answer:
        try:
            text = (await context.call(generate(), step="g", stream=True, timeout=10)).text
        except (FaultError, DeadlineExceededError):
            text = ""
        if accepts and text:
            return Answer(run_id=context.run, text=text, rung="primary")
        if context.stream_writer is not None:
            await context.stream_writer.reset("not grounded", rung="extractive")
            await context.stream_writer.write("Word for word.")
        return Answer(run_id=context.run, text="Word for word.", rung="extractive", reason="not grounded")

    inference = Tier("inference", {Generate: writes})  # type: ignore[dict-item]  # a handler
    async with serving(settings, inference), serving(settings, Tier("orchestration", {Ask: answer})) as mesh:
        yield mesh


async def test_text_of_a_nested_call_goes_directly_to_the_caller(mesh_settings: MeshSettings) -> None:
    async with answering(mesh_settings, accepts=True) as mesh:
        reading = StreamReading()
        reply = await reading.read_all(mesh.rpc.stream(Ask(question="why?"), CallOptions(run=run_of(mesh), step="ask")))
    assert (reply.text, reading.shown, reading.resets) == (TEXT, TEXT, [])


async def test_rejected_text_is_reset(mesh_settings: MeshSettings) -> None:
    async with answering(mesh_settings, accepts=False) as mesh:
        reading = StreamReading()
        reply = await reading.read_all(mesh.rpc.stream(Ask(question="why?"), CallOptions(run=run_of(mesh), step="ask")))
    assert reply.text == reading.shown == "Word for word."
    assert reading.resets == [Reset(reason="not grounded", rung="extractive")]
    shown = "".join(item.text for item in reading.items if isinstance(item, Delta))
    assert shown == TEXT + "Word for word."


@asynccontextmanager
async def redacting(settings: MeshSettings) -> AsyncIterator[WorkerRuntime]:
    """Run tiers that stream the model's text and answer with one word of it redacted."""

    async def redact(_ask: Ask, context: Context) -> Answer:
        draft = await context.call(generate(), step="draft", stream=True)
        return Answer(run_id=context.run, text=draft.text.replace("nobody", "[removed]"), rung="primary")

    async with (
        serving(settings, Tier("inference", {Generate: write})),
        serving(settings, Tier("orchestration", {Ask: redact})) as mesh,
    ):
        yield mesh


async def test_a_draft_that_differs_from_the_answer_is_reset(mesh_settings: MeshSettings) -> None:
    async with redacting(mesh_settings), Poise(mesh_settings.broker) as poise:
        reading = StreamReading()
        reply = await reading.read_all(poise.stream("why?"))
    assert reply.text == reading.shown == "Because [removed] asked before."
    assert reading.resets == [Reset(reason=DIFFERS)]


async def stream_and_reply(plain_client: PlainKafkaClient) -> list[Record]:
    """Ask as a Kafka client; return the events of the stream, and then the reply."""
    headers: dict[str, Any] = {
        "correlation_id": "mine",
        "poise_stream_to": f"{plain_client.topic}/1/mine",
        "poise_reply_partition": "1",
    }
    sent = await plain_client.send(ASK_INTERACTIVE.name, b'{"question": "why?"}', **headers)
    records = [await plain_client.reply(sent)]
    while records[-1].header("poise-kind") != Answer.kind:
        records.append(await plain_client.reply(sent))
    return records


async def test_a_kafka_client_gets_a_reset_of_a_draft_that_differs(
    mesh_settings: MeshSettings, plain_client: PlainKafkaClient
) -> None:
    async with redacting(mesh_settings):
        *events, reply = await stream_and_reply(plain_client)
    stream = events[-1].header("poise-stream")
    reset, delta, end = [event for event in events if event.header("poise-stream") == stream]
    assert Reset.parse(reset.value or b"").reason == DIFFERS
    assert Delta.parse(delta.value or b"").text == Answer.parse(reply.value or b"").text
    assert end.header("poise-kind") == End.kind
    assert position_of(reply) == position_of(end)


async def test_a_stream_has_no_end_event_if_the_reply_is_too_large(
    mesh_settings: MeshSettings, plain_client: PlainKafkaClient
) -> None:
    async def answer_too_large(_ask: Ask, context: Context) -> Answer:
        assert context.stream_writer is not None
        await context.stream_writer.write(TEXT)
        await context.stream_writer._flush()  # a fault does not wait for the text
        return Answer(run_id=context.run, text=TEXT, rung="primary", degraded=("x" * 2_000_000,))

    async with serving(mesh_settings, Tier("orchestration", {Ask: answer_too_large})):
        headers: dict[str, Any] = {"poise_stream_to": f"{plain_client.topic}/1", "poise_reply_partition": "1"}
        sent = await plain_client.send(ASK_INTERACTIVE.name, b'{"question": "why?"}', **headers)
        delta, fault = [await plain_client.reply(sent) for _ in range(2)]
    assert delta.header("poise-kind") == Delta.kind
    assert (fault.header("poise-kind"), fault.header("poise-stream")) == (Fault.kind, None)


async def test_text_of_a_step_that_fails_is_reset(mesh_settings: MeshSettings) -> None:
    async def write_and_fail(_request: Generate, context: Context) -> Completion:
        assert context.stream_writer is not None
        await context.stream_writer.write(PIECES[0])
        raise TerminalError("the model broke")

    async with answering(mesh_settings, accepts=True, writes=write_and_fail) as mesh:
        reading = StreamReading()
        reply = await reading.read_all(mesh.rpc.stream(Ask(question="why?"), CallOptions(run=run_of(mesh), step="ask")))
    assert reply.text == reading.shown == "Word for word."


async def test_a_kafka_client_can_read_a_stream(mesh_settings: MeshSettings, plain_client: PlainKafkaClient) -> None:
    async with answering(mesh_settings, accepts=True):
        *events, reply = await stream_and_reply(plain_client)
    kinds = [record.header("poise-kind") for record in events]
    assert set(kinds[:-1]) == {Delta.kind}
    assert kinds[-1] == End.kind
    positions = [position_of(record) for record in [*events, reply]]
    (stream,) = {position.attempt for position in positions if position is not None}
    assert positions == [
        *(StreamPosition(stream, n) for n in range(len(events))),
        StreamPosition(stream, len(events) - 1),
    ]
    assert "".join(Delta.parse(event.value or b"").text for event in events[:-1]) == TEXT
    assert Answer.parse(reply.value or b"").text == TEXT


@pytest.mark.parametrize(
    ("stream_to", "message"),
    [
        ("mine", "is not topic/partition/correlation id"),
        ("mine/x/c", "is not topic/partition/correlation id"),
        ("mine/0/c", "does not exist"),
        ("poise.replies/99/c", "has the partitions 0 to 11"),
        ("poise.documents/0/c", "is reserved for Poise"),
    ],
)
async def test_an_invalid_stream_address_is_refused(
    mesh_settings: MeshSettings, plain_client: PlainKafkaClient, stream_to: str, message: str
) -> None:
    async with answering(mesh_settings, accepts=True):
        sent = await plain_client.send(ASK_INTERACTIVE.name, b'{"question": "why?"}', poise_stream_to=stream_to)
        reply = await plain_client.reply(sent)
    assert reply.header("poise-kind") == "fault/1"
    assert b"poise-stream-to" in (reply.value or b"")
    assert message in (reply.value or b"").decode()


async def test_a_retried_run_shows_the_stored_text_after_a_reset(mesh_settings: MeshSettings) -> None:
    """Retry an ask whose caller has the text of the first attempt, when the model's reply is stored."""
    failed = asyncio.Event()

    async def answer(_ask: Ask, context: Context) -> Answer:
        reply = await context.call(generate(), step="g", stream=True)
        if not failed.is_set():
            failed.set()
            raise RetryableError("retried, as by another worker")
        return Answer(run_id=context.run, text=reply.text, rung="primary")

    tiers = Tier("inference", {Generate: write}), Tier("orchestration", {Ask: answer})
    async with serving(mesh_settings, tiers[0]), serving(mesh_settings, tiers[1]) as mesh:
        reading = StreamReading()
        await reading.read_all(mesh.rpc.stream(Ask(question="why?"), CallOptions(run=run_of(mesh), step="ask")))
    assert (reading.shown, [reset.reason for reset in reading.resets]) == (TEXT, [RESTARTED])
