"""Who may write asks, or replies, cannot answer another's call, nor put words into its stream."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest
from integration_kit import WITHIN, Outsider, serving, until

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
    """What the mesh says to an ask of the attacker's: whatever the attacker likes, words by stream too."""
    if context.stream_writer is not None:
        await context.stream_writer.write(ask.question)
    return Answer(run_id=context.run, text=ask.question, rung="primary")


class Victim:
    """A call with a stream that waits for a slow model, and everything that its reader is shown."""

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

    async def words(self) -> str:
        """All of it, to the end."""
        async with asyncio.timeout(WITHIN):
            await self._reading
        return "".join(item.text for item in self.shown if isinstance(item, Delta))


@asynccontextmanager
async def attacked(settings: MeshSettings) -> AsyncIterator[tuple[Victim, asyncio.Event]]:
    """A mesh with a slow model, a call that waits for it, and what lets the model go on."""
    go_on = asyncio.Event()

    async def slow(_request: Generate, context: Context) -> Completion:
        await go_on.wait()
        assert context.stream_writer is not None
        await context.stream_writer.write(ORIGINAL)
        return Completion(text=ORIGINAL, model="m", backend="b", finish_reason="stop")

    async with (
        serving(settings, Tier("inference", {Generate: slow})),
        serving(settings, Tier("orchestration", {Ask: answer})),
        WorkerRuntime(settings, tier="client") as mesh,
    ):
        try:
            yield Victim(mesh), go_on
        finally:
            go_on.set()


def ask(question: str) -> bytes:
    return Ask(question=question).encode()


@asynccontextmanager
async def forged(mesh: WorkerRuntime, partition: int, correlation_id: bytes, many: int) -> AsyncIterator[None]:
    """Write this number of records under the victim's correlation id before its own reply: it reads them first."""
    async with mesh.logs.open_stream(REPLIES.name, start="end", partitions=[partition]) as log:
        yield
        async with asyncio.timeout(WITHIN):
            async for batch in log:
                many -= sum(record.raw_header("correlation_id") == correlation_id for record in batch)
                if many <= 0:
                    return


async def test_an_ask_that_names_anothers_correlation_id_reaches_nobody(
    mesh_settings: MeshSettings, outsider: Outsider
) -> None:
    """The worst case: the attacker knows the random id too. What the mesh then sends there is of another run."""
    async with attacked(mesh_settings) as (victim, go_on):
        stolen, partition = await victim.correlation_id(), victim.calls._partition
        headers: dict[str, Any] = {
            "reply_to": REPLIES.name,
            "correlation_id": stolen,
            "poise_reply_partition": str(partition),
            "poise_stream_to": b"poise.replies/%d/%b" % (partition, stolen),
            "poise_run": victim.run,
            "poise_step": "generate",
        }
        async with forged(victim.mesh, partition, stolen, 4):  # delta, end, answer; and the fault of the refusal
            await outsider.send(ASK_INTERACTIVE.name, ask(FORGED), **headers)
            await outsider.send(ASK_INTERACTIVE.name, b"{}", **headers)
        go_on.set()
        assert await victim.words() == ORIGINAL
    assert not any(isinstance(item, Reset) for item in victim.shown)


async def test_words_may_not_be_sent_to_another_than_the_asker(mesh_settings: MeshSettings, outsider: Outsider) -> None:
    async with attacked(mesh_settings) as (victim, go_on):
        stolen, partition = await victim.correlation_id(), victim.calls._partition
        to = b"poise.replies/%d/%b" % (partition, stolen)
        sent = await outsider.send(ASK_INTERACTIVE.name, ask(FORGED), poise_stream_to=to)
        told = Fault.parse((await outsider.reply(sent)).value or b"")
        elsewhere = await outsider.send(
            ASK_INTERACTIVE.name, ask(FORGED), poise_reply_partition="0", poise_stream_to=f"{outsider.topic}/1"
        )
        refused = Fault.parse((await outsider.reply(elsewhere)).value or b"")
        go_on.set()
        assert await victim.words() == ORIGINAL
    assert [error.field for error in told.errors] == ["poise-stream-to"]
    assert told.detail.endswith("must be the message's own reply_to, poise-reply-partition and correlation_id")
    assert refused.errors == told.errors


async def test_who_may_write_replies_and_knows_no_id_reaches_nobody(mesh_settings: MeshSettings) -> None:
    """They know instance, run, step, partition and form; what is left to guess are 128 random bits."""
    async with attacked(mesh_settings) as (victim, go_on):
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
        go_on.set()
        assert await victim.words() == ORIGINAL
    assert not any(isinstance(item, Reset) for item in victim.shown)


async def test_calls_by_the_public_door_find_their_own_runs(mesh_settings: MeshSettings) -> None:
    """Many at once, so that they share batches: the run of each is made of its very place and time."""
    async with serving(mesh_settings, Tier("orchestration", {Ask: answer})) as mesh:
        asked = [
            mesh.rpc.call(Ask(question=str(n)), CallOptions(topic=ASK_INTERACTIVE, step="ask")) for n in range(300)
        ]
        async with asyncio.timeout(WITHIN):
            answers = await asyncio.gather(*asked)
    assert [each.text for each in answers] == [str(n) for n in range(300)]
    assert len({each.run_id for each in answers}) == 300
