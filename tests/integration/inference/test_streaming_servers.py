"""Servers that stream, and their failures in the middle of a stream."""

import asyncio
import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest
from integration_kit import serving

from poise.contracts import ChatMessage, Completion, Delta, Generate, Reset, Usage
from poise.errors import DeadlineExceededError, RetryableError, TerminalError
from poise.rpc.client import CallOptions
from poise.rpc.stream_reader import RESTARTED
from poise.settings import MeshSettings
from poise.worker.tier import Tier
from poise_services.inference.backends import Backends
from poise_services.inference.handlers import handlers
from poise_services.inference.provider_errors import ContextTooLongError
from poise_services.inference.settings import InferenceSettings

Script = Callable[..., object]
Serve = Callable[[Script], AbstractAsyncContextManager[str]]
ASKED = Generate(messages=(ChatMessage(role="user", content="Why?"),))
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\nconnection: close\r\n\r\n"
DONE = b"data: [DONE]\n\n"


def one(url: str, **settings: object) -> Backends:
    return Backends(InferenceSettings.model_validate({"backends": {"default": {"url": url, "model": "m", **settings}}}))


def chunk(content: str | None = None, **more: object) -> bytes:
    finish_reason = more.pop("finish_reason", None)
    delta = {} if content is None else {"content": content}
    body = {"choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}], "model": "big", **more}
    return b"data: " + json.dumps(body, ensure_ascii=False).encode() + b"\n\n"


WORDS = chunk("Be") + chunk("cause.")
STOP = chunk(finish_reason="stop")
USAGE = b'data: {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}\n\n'


async def read_request(reader: asyncio.StreamReader) -> dict[str, object]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    body: dict[str, object] = json.loads(
        await reader.readexactly(int(head.split("content-length: ")[1].split("\r\n")[0]))
    )
    return body


def writing(*parts: bytes, bodies: list[dict[str, object]] | None = None) -> Script:
    """Write the given parts one by one on each connection, then close it."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = await read_request(reader)
        if bodies is not None:
            bodies.append(body)
        for part in parts:
            writer.write(part)
            await writer.drain()

    return script


class DeltaCollector:
    """Collects the deltas."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    async def write(self, text: str) -> None:
        if text:
            self.texts.append(text)


async def ask(backends: Backends, deltas: DeltaCollector | None, remaining: float = 30) -> Completion:
    write = deltas.write if deltas is not None else None
    return await backends.get("default").complete(ASKED, remaining=remaining, write=write)


# -- complete streams --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pieces", ["whole", "byte by byte"])
async def test_deltas_are_streamed(serve: Serve, pieces: str) -> None:
    body = b": hello\n\n" + chunk("") + WORDS + chunk(" 語 😀") + STOP + USAGE + DONE
    parts = [HEAD + body] if pieces == "whole" else [HEAD, *(bytes([byte]) for byte in body)]
    bodies: list[dict[str, object]] = []
    deltas = DeltaCollector()
    async with serve(writing(*parts, bodies=bodies)) as url, one(url) as backends:
        completion = await ask(backends, deltas)
    assert deltas.texts == ["Be", "cause.", " 語 😀"]
    assert completion == Completion(
        text="Because. 語 😀", model="big", backend="default", finish_reason="stop",
        usage=Usage(prompt_tokens=3, completion_tokens=2),
    )  # fmt: skip
    assert (bodies[0]["stream"], bodies[0]["stream_options"]) == (True, {"include_usage": True})


async def test_a_delta_arrives_before_the_next_is_written(serve: Serve) -> None:
    seen = asyncio.Event()

    async def waits(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(HEAD + chunk("Be"))
        await seen.wait()
        writer.write(chunk("cause.") + STOP + DONE)

    async def write(text: str) -> None:
        if text == "Be":
            seen.set()

    async with serve(waits) as url, one(url) as backends:
        completion = await backends.get("default").complete(ASKED, remaining=30, write=write)
    assert completion.text == "Because."


async def test_a_slow_caller_slows_the_server_down(serve: Serve) -> None:
    """Check that deltas the caller does not read stay in the server: the tier does not buffer them."""
    pieces, sent, takes, stuck = 4_000, 0, asyncio.Event(), asyncio.Event()

    async def writes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await read_request(reader)
        writer.write(HEAD)
        for _ in range(pieces):
            writer.write(chunk("x" * 1_000))
            sent += 1
            await writer.drain()
        writer.write(STOP + DONE)

    async def write(_: str) -> None:
        stuck.set()
        await takes.wait()

    async with serve(writes) as url, one(url) as backends:
        task = asyncio.create_task(backends.get("default").complete(ASKED, remaining=30, write=write))
        await stuck.wait()
        before = -1
        while before != sent:  # until the socket buffers are full
            before = sent
            await asyncio.sleep(0.05)
        assert sent < pieces
        takes.set()
        assert len((await task).text) == pieces * 1_000


async def test_without_a_stream_a_single_response_is_requested(serve: Serve) -> None:
    answer = json.dumps({"choices": [{"message": {"content": "Because."}, "finish_reason": "stop"}]}).encode()
    plain = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(answer), answer)
    bodies: list[dict[str, object]] = []
    async with serve(writing(plain, bodies=bodies)) as url:
        async with one(url) as backends:
            assert (await ask(backends, None)).text == "Because."
        async with one(url, stream=False) as backends:
            assert (await ask(backends, DeltaCollector())).text == "Because."
        async with one(url) as backends:  # and a server that ignores `stream` and sends one response
            deltas = DeltaCollector()
            assert (await ask(backends, deltas)).text == "Because."
    assert ["stream" in body for body in bodies] == [False, False, True]
    assert deltas.texts == []


async def test_either_form_of_the_end_is_accepted(serve: Serve) -> None:
    for body in (WORDS + STOP, WORDS + DONE, WORDS + STOP + USAGE, WORDS + STOP.rstrip(b"\n")):
        async with serve(writing(HEAD + body)) as url, one(url) as backends:
            assert (await ask(backends, DeltaCollector())).text == "Because."


async def test_data_after_the_end_is_ignored(serve: Serve) -> None:
    async def lingers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(HEAD + WORDS + STOP + DONE + chunk("more"))
        await reader.read()  # until the client disconnects

    async with serve(lingers) as url, one(url, concurrency=1) as backends:
        for _ in range(2):
            assert (await ask(backends, DeltaCollector())).text == "Because."


# -- failing streams ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "error", "says"),
    [
        (WORDS, RetryableError, "cut off"),
        (b"", RetryableError, "no choices"),
        (DONE, RetryableError, "no choices"),
        (chunk("Be") + b"data: {nonsense\n\n", RetryableError, "a chunk of it cannot be read"),
        (chunk("Be") + b'data: {"error": {"message": "out of memory"}}\n\n', RetryableError, "500: out of memory"),
        (chunk("Be") + b'data: {"error": {"message": "no", "code": 400}}\n\n', TerminalError, "400: no"),
        (b'data: {"error": {"message": "context length", "code": 400}}\n\n', ContextTooLongError, "context length"),
        (b'data: {"error": "busy: sk-secret"}\n\n', RetryableError, r"busy: \*\*\*"),
        (chunk("x" * 1_000_000) * 9, RetryableError, "more than"),
    ],
    ids=["cut off", "empty", "only done", "nonsense", "error", "refused", "too long", "quotes", "endless"],
)  # fmt: skip
async def test_each_stream_failure_has_one_error(serve: Serve, body: bytes, error: type[Exception], says: str) -> None:
    async with serve(writing(HEAD + body)) as url, one(url, api_key="sk-secret") as backends:
        with pytest.raises(error, match=says):
            await ask(backends, DeltaCollector())


async def test_a_connection_lost_within_a_chunked_body_is_retryable(serve: Serve) -> None:
    head = HEAD.replace(b"connection: close", b"transfer-encoding: chunked")
    async with serve(writing(head + b"%x\r\n%b\r\n" % (len(WORDS), WORDS))) as url, one(url) as backends:
        deltas = DeltaCollector()
        with pytest.raises(RetryableError, match="RemoteProtocolError"):
            await ask(backends, deltas)
    assert deltas.texts == ["Be", "cause."]


async def test_a_silent_server_is_abandoned_at_the_deadline_and_its_slot_released(serve: Serve) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(HEAD + chunk("Be"))
        await reader.read()

    async with serve(silent) as url, one(url, concurrency=1) as backends:
        for _ in range(3):
            with pytest.raises(DeadlineExceededError):
                await ask(backends, DeltaCollector(), remaining=0.2)


async def test_a_truncated_stream_is_restarted_with_a_reset(serve: Serve, mesh_settings: MeshSettings) -> None:
    """Break the first connection in the middle of the stream, and complete the second; over Kafka."""
    connections, seen = 0, asyncio.Event()

    async def second_time_lucky(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await read_request(reader)
        if connections == 1:
            writer.write(HEAD + chunk("Well"))
            await seen.wait()
        else:
            writer.write(HEAD + WORDS + STOP + DONE)

    async with (
        serve(second_time_lucky) as url,
        one(url) as backends,
        serving(mesh_settings, Tier("inference", handlers(backends))) as mesh,
    ):
        stream = mesh.rpc.stream(ASKED, CallOptions(run=mesh_settings.instance, step="g"))
        assert await anext(stream) == Delta(text="Well")
        seen.set()
        items: list[object] = [item async for item in stream]
    assert items[0] == Reset(reason=RESTARTED)
    assert "".join(item.text for item in items if isinstance(item, Delta)) == "Because."
    assert isinstance(items[-1], Completion)
    assert connections == 2
