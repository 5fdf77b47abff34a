"""POST /v1/ask with `Accept: text/event-stream`: the events, and errors before and after the first one."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any

import httpx2
import pytest
from integration_kit import until

from poise.contracts import Answer, Ask, Delta, Reset
from poise.errors import TerminalError, UnavailableError
from poise_services.gateway.event_stream import EventWriter
from poise_services.gateway.handlers import Gateway

Problem = Callable[[httpx2.Response], tuple[int, str, list[str]]]
STREAM = {"accept": "text/event-stream"}
WORDS: list[Delta | Reset] = [
    Delta(text="No\n"),
    Reset(reason="not grounded", rung="extractive"),
    Delta(text="Because."),
]


async def test_deltas_are_events_and_the_answer_is_the_last(client: httpx2.AsyncClient, mesh: Any) -> None:
    mesh.words = WORDS
    response = await client.post("/v1/ask", json={"question": "Why?"}, headers=STREAM)
    run = response.headers["poise-run"]
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert (response.headers["cache-control"], response.headers["x-accel-buffering"]) == ("no-store", "no")
    assert response.text == (
        'id: 0\nevent: delta\ndata: {"text":"No\\n"}\n\n'
        'id: 1\nevent: reset\ndata: {"reason":"not grounded","rung":"extractive"}\n\n'
        'id: 2\nevent: delta\ndata: {"text":"Because."}\n\n'
        "id: 3\nevent: end\ndata: {}\n\n"
        f'id: 4\nevent: answer\ndata: {{"run_id":"{run}","text":"Because.","citations":[],"rung":"primary",'
        '"variant":"brief","degraded":[],"cached":false,"timings":{}}\n\n'
    )
    called = mesh.called[0]
    assert {"request": Ask(question="Why?"), "run": run, "step": "ask", "key": run}.items() <= called.items()


@pytest.mark.parametrize(
    ("accept", "streams"),
    [
        ("text/event-stream", True),
        ("application/json;q=0.1, Text/Event-Stream;q=0.9", True),
        ("*/*, text/event-stream", True),
        ("application/json, text/event-stream, application/problem+json", False),
        ("text/event-stream;q=0", False),
        ("text/event-stream;q=much", False),
        ("*/*", False),
        ("application/json", False),
        ("", False),
    ],
)
async def test_accept_selects_the_event_stream(client: httpx2.AsyncClient, accept: str, *, streams: bool) -> None:
    response = await client.post("/v1/ask", json={"question": "Why?"}, headers={"accept": accept})
    assert response.headers["content-type"].startswith("text/event-stream") == streams


async def test_an_error_before_the_first_event_is_a_problem(
    client: httpx2.AsyncClient, mesh: Any, problem: Problem, gateway: Gateway
) -> None:
    mesh.error = UnavailableError("the broker is away")
    response = await client.post("/v1/ask", json={"question": "Why?"}, headers=STREAM)
    assert problem(response) == (503, "urn:poise:unavailable", [])
    assert response.headers["poise-run"]
    assert gateway.asks.pending == 0


async def test_an_error_after_the_first_event_is_the_last_event(client: httpx2.AsyncClient, mesh: Any) -> None:
    mesh.words, mesh.error = WORDS[:1], TerminalError("the model broke")
    response = await client.post("/v1/ask", json={"question": "Why?"}, headers=STREAM)
    assert response.status_code == 200
    last = response.text.removesuffix("\n\n").split("\n\n")[-1]
    assert last.startswith('id: 1\nevent: fault\ndata: {"type":"urn:poise:failed"')
    assert "the model broke" in last


async def test_an_unexpected_error_after_the_first_event_is_a_fault_without_details(
    client: httpx2.AsyncClient, mesh: Any, caplog: pytest.LogCaptureFixture
) -> None:
    mesh.words, mesh.error = WORDS[:1], KeyError("secret")
    response = await client.post("/v1/ask", json={"question": "Why?"}, headers=STREAM)
    assert "event: fault" in response.text
    assert "secret" not in response.text
    assert "secret" in caplog.text


async def test_shutdown_ends_a_stream_with_a_fault(
    client: httpx2.AsyncClient, mesh: Any, gateway: Gateway, held: asyncio.Event
) -> None:
    mesh.words = WORDS
    asking = asyncio.create_task(client.post("/v1/ask", json={"question": "Why?"}, headers=STREAM))
    await until(lambda: bool(mesh.called))
    gateway.asks.abort_pending()
    response = await asking
    assert "event: fault" in response.text
    assert "the gateway is shutting down" in response.text
    assert (mesh.given_up, gateway.asks.pending, held.is_set()) == (1, 0, False)


async def test_streaming_asks_count_as_pending(
    client: httpx2.AsyncClient, mesh: Any, gateway: Gateway, held: asyncio.Event, problem: Problem
) -> None:
    asking = [asyncio.create_task(client.post("/v1/ask", json={"question": "?"}, headers=STREAM)) for _ in range(2)]
    await until(lambda: len(mesh.called) == 2)
    refused = await client.post("/v1/ask", json={"question": "Why?"}, headers=STREAM)
    assert problem(refused)[0] == 503
    held.set()
    await asyncio.gather(*asking)
    assert gateway.asks.pending == 0


async def test_comments_fill_silence_without_losing_items() -> None:
    written: list[bytes] = []
    commented = asyncio.Event()

    async def send(message: Any) -> None:
        written.append(message.get("body", b""))
        if message.get("body", b"").startswith(b":"):
            commented.set()

    async def items() -> AsyncGenerator[Delta | Reset | Answer]:
        await commented.wait()
        yield WORDS[0]

    await EventWriter(send, dict).relay(items(), keep_alive=0.001)
    assert b": still here\n\n" in written
    assert written[-1] == b'id: 0\nevent: delta\ndata: {"text":"No\\n"}\n\n'


async def test_a_disconnect_closes_the_items() -> None:
    closed, waiting = asyncio.Event(), asyncio.Event()

    async def items() -> AsyncGenerator[Delta | Reset | Answer]:
        try:
            yield WORDS[0]
            waiting.set()
            await asyncio.Event().wait()
        finally:
            closed.set()

    async def send(_: Any) -> None:
        pass

    relaying = asyncio.create_task(EventWriter(send, dict).relay(items()))
    await waiting.wait()
    relaying.cancel()
    await asyncio.gather(relaying, return_exceptions=True)
    assert closed.is_set()


async def test_a_disconnect_during_a_write_closes_the_items() -> None:
    closed, writing = asyncio.Event(), asyncio.Event()

    async def items() -> AsyncGenerator[Delta | Reset | Answer]:
        try:
            yield WORDS[0]
        finally:
            closed.set()

    async def send(_: Any) -> None:
        writing.set()
        await asyncio.Event().wait()

    relaying = asyncio.create_task(EventWriter(send, dict).relay(items()))
    await writing.wait()
    relaying.cancel()
    await asyncio.gather(relaying, return_exceptions=True)
    assert closed.is_set()
