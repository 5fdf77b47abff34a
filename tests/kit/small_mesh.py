"""Small orchestration and retrieval tiers for tests: one answers, the other confirms documents as indexed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from integration_kit import serving

from poise.contracts import Answer, Ask, Citation, Deletion, Document, Manifest, Message, Passages, Retrieve
from poise.contracts.topics import PASSAGES
from poise.errors import InvalidMessageError, TerminalError
from poise.settings import MeshSettings
from poise.worker.context import Context
from poise.worker.tier import Tier

POISON = "POISON"


async def _answer(ask: Ask, context: Context) -> Answer:
    match ask.question.split():
        case ["refuse"]:
            raise InvalidMessageError("question: nobody answers that")
        case ["fail"]:
            raise TerminalError("the handler was asked to fail")
        case ["stream"] if context.stream_writer is not None:
            await context.stream_writer.write("made up")
            await context.stream_writer.reset("not grounded", rung="extractive")
            await context.stream_writer.write("you asked: stream")
        case ["sleep"]:
            await asyncio.Event().wait()
    return Answer(
        run_id=context.run,
        text=f"you asked: {ask.question}",
        citations=(Citation(source="A book", passage="book#0", quote="its words"),),
        rung="primary",
        variant="small",
        epoch=context.envelope.min_epoch,
        timings={"total": 5_000_000.0},
    )


async def _index(document: Document, context: Context) -> None:
    if POISON in document.text:
        raise TerminalError("it is poison")
    await _manifest(context, parts=3)


async def _forget(_: Deletion, context: Context) -> None:
    await _manifest(context, parts=0)


async def _manifest(context: Context, *, parts: int) -> None:
    record = context.record
    id_ = (record.key or b"").decode(errors="replace")
    await context.publish(
        PASSAGES,
        Manifest(document=id_, parts=parts, published=record.timestamp),
        key=f"{id_}#manifest",
        partition=record.partition,
        doc_version=record.offset,
    )


async def _find(_: Retrieve, __: Context) -> Message:
    return Passages(passages=(), epoch="e", mode="none")


@asynccontextmanager
async def answering(settings: MeshSettings) -> AsyncIterator[asyncio.Queue[str]]:
    """Run an orchestration worker that answers with the question; yield a queue of the questions."""
    questions: asyncio.Queue[str] = asyncio.Queue()

    async def answer(ask: Ask, context: Context) -> Answer:
        questions.put_nowait(ask.question)
        return await _answer(ask, context)

    async with serving(settings, Tier("orchestration", {Ask: answer})):
        yield questions


@asynccontextmanager
async def indexing(settings: MeshSettings) -> AsyncIterator[None]:
    """Run a retrieval worker that publishes a manifest of each document and indexes nothing."""
    async with serving(settings, Tier("retrieval", {Retrieve: _find, Document: _index, Deletion: _forget})):
        yield
