"""Streaming an answer over real HTTP and a real Kafka."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

import httpx2
import pytest
from integration_kit import WITHIN, until

from poise.contracts import Answer, Ask
from poise.errors import TerminalError
from poise.rpc.stream_reader import MAX_UNREAD_CHARS
from poise.rpc.stream_writer import DIFFERS
from poise.worker.context import Context
from poise.worker.runtime import WorkerRuntime

pytestmark = pytest.mark.integration

Open = Callable[..., AbstractAsyncContextManager[tuple[httpx2.AsyncClient, WorkerRuntime]]]
STREAM = {"accept": "text/event-stream"}
ASK = {"question": "Why?"}


async def events(response: httpx2.Response) -> AsyncIterator[tuple[str, dict[str, object]]]:
    name = ""
    async for line in response.aiter_lines():
        field, _, value = line.partition(": ")
        if field == "event":
            name = value
        elif field == "data":
            yield name, json.loads(value)


def answer_with(context: Context, text: str) -> Answer:
    return Answer(run_id=context.run, text=text, rung="primary")


async def test_a_delta_arrives_before_the_next_is_written(open_gateway: Open) -> None:
    seen = asyncio.Event()

    async def answer(_: Ask, context: Context) -> Answer:
        assert context.stream_writer is not None
        await context.stream_writer.write("Be")
        await seen.wait()
        await context.stream_writer.write("cause.")
        return answer_with(context, "Because.")

    async with (
        open_gateway(answer) as (client, _),
        client.stream("POST", "/v1/ask", json=ASK, headers=STREAM) as response,
    ):
        stream = events(response)
        assert await anext(stream) == ("delta", {"text": "Be"})
        seen.set()
        rest = [event async for event in stream]
    assert [name for name, _ in rest] == ["delta", "end", "answer"]
    assert rest[0][1] == {"text": "cause."}
    assert (rest[-1][1]["text"], rest[-1][1]["run_id"]) == ("Because.", response.headers["poise-run"])


async def test_a_reset_discards_the_draft_of_another_answer(open_gateway: Open) -> None:
    async def redacts(_: Ask, context: Context) -> Answer:
        assert context.stream_writer is not None
        await context.stream_writer.write("Call 555-0199.")
        await context.stream_writer._flush()
        return answer_with(context, "Call [removed].")

    async with (
        open_gateway(redacts) as (client, _),
        client.stream("POST", "/v1/ask", json=ASK, headers=STREAM) as response,
    ):
        shown = [event async for event in events(response)]
    assert shown[0] == ("delta", {"text": "Call 555-0199."})
    assert [name for name, _ in shown] == ["delta", "reset", "delta", "end", "answer"]
    assert shown[1][1]["reason"] == DIFFERS
    assert shown[2][1]["text"] == shown[-1][1]["text"] == "Call [removed]."


async def test_a_fault_before_the_first_delta_is_a_problem_and_after_it_an_event(open_gateway: Open) -> None:
    async def breaks(ask: Ask, context: Context) -> Answer:
        if ask.question == "later" and context.stream_writer is not None:
            await context.stream_writer.write("Well")
            await context.stream_writer._flush()
        raise TerminalError("there is nothing to be done")

    async with open_gateway(breaks) as (client, _):
        before = await client.post("/v1/ask", json=ASK, headers=STREAM)
        async with client.stream("POST", "/v1/ask", json={"question": "later"}, headers=STREAM) as after:
            received = [event async for event in events(after)]
    assert (before.status_code, before.headers["content-type"]) == (500, "application/problem+json")
    assert (after.status_code, [name for name, _ in received]) == (200, ["delta", "fault"])
    assert received[-1][1]["detail"] == before.json()["detail"] == "there is nothing to be done"


async def test_the_deadline_ends_a_silent_stream(open_gateway: Open) -> None:
    async def hangs(_: Ask, context: Context) -> Answer:
        assert context.stream_writer is not None
        await context.stream_writer.write("Well")
        return await asyncio.Future()

    async with open_gateway(hangs) as (client, _):
        headers = STREAM | {"poise-deadline": str(round((time.time() + 3) * 1_000))}
        async with client.stream("POST", "/v1/ask", json=ASK, headers=headers) as response:
            received = [event async for event in events(response)]
    assert [name for name, _ in received] == ["delta", "fault"]
    assert received[-1][1]["type"] == "urn:poise:deadline-exceeded"


async def test_a_disconnect_abandons_the_call(open_gateway: Open) -> None:
    async def hangs(_: Ask, context: Context) -> Answer:
        assert context.stream_writer is not None
        await context.stream_writer.write("Well")
        await asyncio.Event().wait()
        return answer_with(context, "Well")

    async with open_gateway(hangs) as (client, mesh):
        assert mesh.rpc._calls is not None
        async with client.stream("POST", "/v1/ask", json=ASK, headers=STREAM) as response:
            assert await anext(events(response)) == ("delta", {"text": "Well"})
            assert len(mesh.rpc._calls._pending) == 1
        await until(lambda: mesh.rpc._calls is not None and not mesh.rpc._calls._pending)


async def test_a_slow_reader_buffers_no_more_than_the_answer(open_gateway: Open) -> None:
    pieces, piece = 1_000, "x" * 8_192  # more than the buffers of sockets and streams hold

    async def floods(_ask: Ask, context: Context) -> Answer:
        assert context.stream_writer is not None
        for _ in range(pieces):
            await context.stream_writer.write(piece)
        return answer_with(context, "all of it")

    async with open_gateway(floods) as (client, mesh):
        assert mesh.rpc._calls is not None
        body = json.dumps(ASK).encode()
        reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port, limit=1_024)
        head = (
            f"POST /v1/ask HTTP/1.1\r\nhost: 127.0.0.1\r\naccept: text/event-stream\r\ncontent-length: {len(body)}\r\n"
        )
        writer.write(f"{head}content-type: application/json\r\nconnection: close\r\n\r\n".encode() + body)
        await until(lambda: bool(mesh.rpc._calls and mesh.rpc._calls._pending))
        (pending,) = mesh.rpc._calls._pending.values()
        waiting = pending._reader
        assert waiting is not None
        most = 0
        async with asyncio.timeout(WITHIN):
            while not waiting._closed:
                await asyncio.sleep(0.002)
                most = max(most, sum(map(len, waiting._text)))
        answered = await reader.read(-1)
        writer.close()
    assert 0 < most <= MAX_UNREAD_CHARS
    assert b'event: reset\ndata: {"reason":"%b"}' % DIFFERS.encode() in answered
    assert answered.count(b"event: answer") == 1
    assert b'"text":"all of it"' in answered
