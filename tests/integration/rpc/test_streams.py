"""Streams of calls over a real Kafka: text as it is generated, and readers that stop or do not read."""

import asyncio

import pytest
from integration_kit import WITHIN, serving
from stream_kit import PIECES, TEXT, StreamReading, completion, generate, run_of, write

from poise.contracts import Completion, Delta, Generate
from poise.rpc.client import CallOptions
from poise.rpc.stream_reader import MAX_UNREAD_CHARS
from poise.rpc.stream_writer import DIFFERS
from poise.settings import MeshSettings
from poise.worker.context import Context
from poise.worker.tier import Tier

pytestmark = pytest.mark.integration


async def test_text_arrives_before_the_reply(mesh_settings: MeshSettings) -> None:
    seen = asyncio.Event()

    async def write_and_wait(_request: Generate, context: Context) -> Completion:
        assert context.stream_writer is not None
        await context.stream_writer.write(PIECES[0])
        await seen.wait()  # until the reader has the first piece
        await context.stream_writer.write("".join(PIECES[1:]))
        return completion()

    async with serving(mesh_settings, Tier("inference", {Generate: write_and_wait})) as mesh:
        stream = mesh.rpc.stream(generate(), CallOptions(run=run_of(mesh), step="g"))
        assert await anext(stream) == Delta(text=PIECES[0])
        seen.set()
        reading = StreamReading()
        reply = await reading.read_all(stream)
    assert (reply, PIECES[0] + reading.shown, reading.resets) == (completion(), TEXT, [])


async def test_a_call_without_a_stream_has_no_stream_writer(mesh_settings: MeshSettings) -> None:
    contexts: list[Context] = []

    async def note_context(request: Generate, context: Context) -> Completion:
        contexts.append(context)
        return await write(request, context)

    async with serving(mesh_settings, Tier("inference", {Generate: note_context})) as mesh:
        assert await mesh.rpc.call(generate(), CallOptions(run=run_of(mesh), step="g")) == completion()
    assert contexts[0].stream_writer is None


async def test_a_reply_without_a_stream_is_read_as_one_delta(mesh_settings: MeshSettings) -> None:
    async def answer_at_once(_request: Generate, _context: Context) -> Completion:
        return completion()

    async with serving(mesh_settings, Tier("inference", {Generate: answer_at_once})) as mesh:
        reading = StreamReading()
        await reading.read_all(mesh.rpc.stream(generate(), CallOptions(run=run_of(mesh), step="g")))
    assert reading.items == [Delta(text=TEXT), completion()]


async def test_a_reply_never_overtakes_its_stream(mesh_settings: MeshSettings) -> None:
    """Read a thousand concurrent streams on one partition: each reader gets all its text before its reply."""
    async with serving(mesh_settings, Tier("inference", {Generate: write}, concurrency=256)) as mesh:
        readings = [StreamReading() for _ in range(1_000)]
        run = run_of(mesh)
        await asyncio.gather(
            *(
                r.read_all(mesh.rpc.stream(generate(), CallOptions(run=f"{run}-{n}", step="g")))
                for n, r in enumerate(readings)
            )
        )
    assert {(reading.shown, len(reading.resets)) for reading in readings} == {(TEXT, 0)}


async def test_a_stored_reply_is_read_as_one_delta(mesh_settings: MeshSettings) -> None:
    """Send a message again: the stored reply names no stream."""
    async with serving(mesh_settings, Tier("inference", {Generate: write})) as mesh:
        run, first, second = run_of(mesh), StreamReading(), StreamReading()
        await first.read_all(mesh.rpc.stream(generate(), CallOptions(run=run, step="g")))
        await second.read_all(mesh.rpc.stream(generate(), CallOptions(run=run, step="g")))
    assert second.items == [Delta(text=TEXT), completion()]
    assert first.shown == TEXT


async def test_closing_a_stream_abandons_its_call(mesh_settings: MeshSettings) -> None:
    async def write_and_hang(_request: Generate, context: Context) -> Completion:
        assert context.stream_writer is not None
        await context.stream_writer.write("Well")
        await asyncio.Event().wait()
        return completion("Well")

    async with serving(mesh_settings, Tier("inference", {Generate: write_and_hang})) as mesh:
        stream = mesh.rpc.stream(generate(), CallOptions(run=run_of(mesh), step="g"))
        await anext(stream)
        await stream.aclose()
        assert mesh.rpc._calls is not None
        assert not mesh.rpc._calls._pending
        assert not mesh.rpc._calls._pending
        assert len(mesh.rpc._calls._abandoned) == 1


async def test_an_idle_reader_buffers_limited_text_and_gets_the_answer(mesh_settings: MeshSettings) -> None:
    pieces, piece = 400, "x" * 8_192  # three times the limit of unread text

    async def write_much(_request: Generate, context: Context) -> Completion:
        assert context.stream_writer is not None
        for _ in range(pieces):
            await context.stream_writer.write(piece)
        return completion("all of it")

    async with serving(mesh_settings, Tier("inference", {Generate: write_much})) as mesh:
        stream = mesh.rpc.stream(generate(), CallOptions(run=run_of(mesh), step="g"))
        first = await anext(stream)
        assert mesh.rpc._calls is not None
        (pending,) = mesh.rpc._calls._pending.values()
        reader = pending._reader
        assert reader is not None
        max_unread = 0
        async with asyncio.timeout(WITHIN):
            while not reader._closed:
                await asyncio.sleep(0.002)
                max_unread = max(max_unread, sum(map(len, reader._text)))
        reading = StreamReading()
        await reading.read_all(stream)
    assert isinstance(first, Delta)
    assert 0 < max_unread <= MAX_UNREAD_CHARS
    assert (reading.shown, [reset.reason for reset in reading.resets]) == ("all of it", [DIFFERS])
