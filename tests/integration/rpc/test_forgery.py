"""A client that may write asks or replies can neither answer another client's call nor write to its stream."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest
from integration_kit import WITHIN, PlainKafkaClient, serving, until

from poise.contracts import Answer, Ask, Completion, Delta, End, Envelope, Fault, Generate, Message, Reset
from poise.contracts.generate import ChatMessage
from poise.contracts.topics import ASK_INTERACTIVE, REPLIES
from poise.rpc.client import CallOptions
from poise.settings import MeshSettings
from poise.worker.context import Context
from poise.worker.runtime import WorkerRuntime
from poise.worker.tier import Tier

pytestmark = pytest.mark.integration

FORGED = "forged"
REFUSED = Fault(type="urn:poise:failed", title=FORGED, status=500, detail=FORGED, retryable=False)
COMPLETED = Completion(text=FORGED, model=FORGED, backend=FORGED, finish_reason="stop")
ORIGINAL = "the model's own words"


async def answer(ask: Ask, context: Context) -> Answer:
    """Answer with the question, and stream it: the attacker controls the text."""
    if context.stream_writer is not None:
        await context.stream_writer.write(ask.question)
    return Answer(run_id=context.run, text=ask.question, rung="primary")


class Victim:
    """A streaming call that waits for a slow model, and the items that its reader gets."""

    def __init__(self, mesh: WorkerRuntime) -> None:
        self.mesh = mesh
        self.run = uuid4().hex
        self.shown: list[object] = []
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        request = Generate(messages=(ChatMessage(role="user", content="x"),))
        async for item in self.mesh.rpc.stream(request, CallOptions(run=self.run, step="generate")):
            self.shown.append(item)

    @property
    def calls(self) -> Any:
        assert self.mesh.rpc._calls is not None
        return self.mesh.rpc._calls

    async def correlation_id(self) -> bytes:
        await until(lambda: bool(self.calls._pending))
        (found,) = self.calls._pending
        return bytes(found)

    async def text(self) -> str:
        """Read the stream to its end and return its text."""
        async with asyncio.timeout(WITHIN):
            await self._reading
        return "".join(item.text for item in self.shown if isinstance(item, Delta))


@asynccontextmanager
async def attacked(settings: MeshSettings) -> AsyncIterator[tuple[Victim, asyncio.Event]]:
    """Run a tier with a slow model; yield a call that waits for it and the event that resumes the model."""
    resume = asyncio.Event()

    async def slow(_request: Generate, context: Context) -> Completion:
        await resume.wait()
        assert context.stream_writer is not None
        await context.stream_writer.write(ORIGINAL)
        return Completion(text=ORIGINAL, model="m", backend="b", finish_reason="stop")

    async with (
        serving(settings, Tier("inference", {Generate: slow})),
        serving(settings, Tier("orchestration", {Ask: answer})),
        WorkerRuntime(settings, tier="client") as mesh,
    ):
        try:
            yield Victim(mesh), resume
        finally:
            resume.set()


def ask(question: str) -> bytes:
    return Ask(question=question).encode()


@asynccontextmanager
async def until_forged(mesh: WorkerRuntime, partition: int, correlation_id: bytes, count: int) -> AsyncIterator[None]:
    """Wait at the end of the block until the log has `count` records with the correlation id.

    The victim reads them first.
    """
    async with mesh.logs.open_stream(REPLIES.name, start="end", partitions=[partition]) as log:
        yield
        async with asyncio.timeout(WITHIN):
            async for batch in log:
                count -= sum(record.raw_header("correlation_id") == correlation_id for record in batch)
                if count <= 0:
                    return


async def test_replies_to_an_ask_with_a_stolen_correlation_id_are_ignored(
    mesh_settings: MeshSettings, plain_client: PlainKafkaClient
) -> None:
    """Try the worst case: the attacker also knows the random id, and has the mesh send another run's records there."""
    async with attacked(mesh_settings) as (victim, resume):
        victims_id, partition = await victim.correlation_id(), victim.calls._partition
        headers: dict[str, Any] = {
            "reply_to": REPLIES.name,
            "correlation_id": victims_id,
            "poise_reply_partition": str(partition),
            "poise_stream_to": b"poise.replies/%d/%b" % (partition, victims_id),
            "poise_run": victim.run,
            "poise_step": "generate",
        }
        async with until_forged(victim.mesh, partition, victims_id, 4):  # delta, end and answer; then a fault
            await plain_client.send(ASK_INTERACTIVE.name, ask(FORGED), **headers)
            await plain_client.send(ASK_INTERACTIVE.name, b"{}", **headers)
        resume.set()
        assert await victim.text() == ORIGINAL
    assert not any(isinstance(item, Reset) for item in victim.shown)


async def test_a_stream_address_other_than_the_reply_address_is_refused(
    mesh_settings: MeshSettings, plain_client: PlainKafkaClient
) -> None:
    async with attacked(mesh_settings) as (victim, resume):
        victims_id, partition = await victim.correlation_id(), victim.calls._partition
        to = b"poise.replies/%d/%b" % (partition, victims_id)
        sent = await plain_client.send(ASK_INTERACTIVE.name, ask(FORGED), poise_stream_to=to)
        fault = Fault.parse((await plain_client.reply(sent)).value or b"")
        other_partition = await plain_client.send(
            ASK_INTERACTIVE.name, ask(FORGED), poise_reply_partition="0", poise_stream_to=f"{plain_client.topic}/1"
        )
        second_fault = Fault.parse((await plain_client.reply(other_partition)).value or b"")
        resume.set()
        assert await victim.text() == ORIGINAL
    assert [error.field for error in fault.errors] == ["poise-stream-to"]
    assert fault.detail.endswith("must be the message's own reply_to, poise-reply-partition and correlation_id")
    assert second_fault.errors == fault.errors


async def test_forged_replies_without_the_correlation_id_are_ignored(mesh_settings: MeshSettings) -> None:
    """Guess ids with known instance, run, step, partition and format: 128 random bits remain."""
    async with attacked(mesh_settings) as (victim, resume):
        own, partition = await victim.correlation_id(), victim.calls._partition
        prefix = f"{mesh_settings.instance}.".encode()
        assert own.startswith(prefix)
        assert len(bytes.fromhex(own.removeprefix(prefix).decode())) * 8 >= 128
        guesses = [b"", prefix, prefix + b"1", own[:-1], own + b"0", own[:-1] + (b"0" if own[-1:] != b"0" else b"1")]
        bodies: list[Message] = [Delta(text=FORGED), Reset(reason=FORGED), End(), REFUSED, COMPLETED]
        for guess in guesses:
            for number, body in enumerate(bodies):
                envelope = Envelope(
                    correlation_id=guess, run=victim.run, step="generate", kind=body.kind, stream="s", seq=number
                )
                await victim.mesh.producer.records.send(
                    REPLIES.name, body.encode(), key=None, headers=envelope.headers(), partition=partition
                )
        resume.set()
        assert await victim.text() == ORIGINAL
    assert not any(isinstance(item, Reset) for item in victim.shown)


async def test_concurrent_calls_on_the_public_topic_get_their_own_runs(mesh_settings: MeshSettings) -> None:
    """Call concurrently, so that calls share batches: each run id is derived from the record's position and time."""
    async with serving(mesh_settings, Tier("orchestration", {Ask: answer})) as mesh:
        calls = [
            mesh.rpc.call(Ask(question=str(n)), CallOptions(topic=ASK_INTERACTIVE, step="ask")) for n in range(300)
        ]
        async with asyncio.timeout(WITHIN):
            answers = await asyncio.gather(*calls)
    assert [answer.text for answer in answers] == [str(n) for n in range(300)]
    assert len({answer.run_id for answer in answers}) == 300
