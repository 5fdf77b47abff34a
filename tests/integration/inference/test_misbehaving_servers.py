"""Servers that hang, disconnect, reject, fail or send garbage: each case has one error, and each slot is released."""

import asyncio
import gzip
import json
import logging
import socket
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest

from poise.contracts import ChatMessage, Completion, Generate
from poise.errors import DeadlineExceededError, RateLimitedError, RetryableError, TerminalError, UnavailableError
from poise.telemetry import semconv
from poise.telemetry.metrics import observations
from poise_services.inference.backends import Backends
from poise_services.inference.provider_errors import ContentFilteredError
from poise_services.inference.settings import InferenceSettings

Script = Callable[..., object]
Serve = Callable[[Script], AbstractAsyncContextManager[str]]
ASKED = Generate(messages=(ChatMessage(role="user", content="Why?"),))
FILTERED = json.dumps({"choices": [{"message": {"content": None}, "finish_reason": "content_filter"}]}).encode()
ANSWER = json.dumps({"choices": [{"message": {"content": "Because."}, "finish_reason": "stop"}]}).encode()


def one(url: str, **settings: object) -> Backends:
    backend = {"url": url, "model": "m", **settings}
    return Backends(InferenceSettings.model_validate({"backends": {"default": backend}}))


async def ask(backends: Backends, remaining: float = 30) -> Completion:
    return await backends.get("default").complete(ASKED, remaining=remaining)


async def read_request(reader: asyncio.StreamReader) -> tuple[str, bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    length = int(head.split("content-length: ")[1].split("\r\n")[0])
    return head, await reader.readexactly(length)


def response(status: str, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def answering(*answers: bytes) -> Script:
    """Send these responses on each connection, one per request."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            await read_request(reader)
            writer.write(answer)
            await writer.drain()

    return script


async def hang(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await reader.read(-1)


async def test_connections_are_reused(serve: Serve) -> None:
    connections = 0
    script = answering(*[response("200 OK", ANSWER)] * 5)

    async def counted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await script(reader, writer)  # type: ignore[misc]  # a script is a coroutine function

    async with serve(counted) as url, one(url) as backends:
        for _ in range(5):
            assert (await ask(backends)).text == "Because."
    assert connections == 1


async def test_the_key_is_sent_and_never_shown(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head, _ = await read_request(reader)
        assert "authorization: bearer sk-secret" in head
        writer.write(response("401 Unauthorized", b'{"error": {"message": "bad key: sk-secret"}}'))

    with caplog.at_level(logging.DEBUG):
        async with serve(echo) as url, one(url, api_key="sk-secret") as backends:
            with pytest.raises(TerminalError, match=r"answered 401: bad key: \*\*\*"):
                await ask(backends)
    assert "sk-secret" not in caplog.text


@pytest.mark.parametrize(
    ("answer", "error", "says"),
    [
        (response("500 Oops", b"oops"), RetryableError, "answered 500: oops"),
        (response("503 Busy", b"", "retry-after: 7"), RetryableError, "answered 503: without a reason"),
        (response("429 Slow", b'{"error": {"message": "slow"}}', "retry-after: 7"), RateLimitedError, "429: slow"),
        (response("429 Slow", b"", "retry-after-ms: 7000", "retry-after: 9"), RateLimitedError, "429: without"),
        (response("429 No", b'{"error": {"type": "insufficient_quota"}}'), RateLimitedError, "429: .*quota"),
        (response("400 No", b'{"error": {"code": "content_filter"}}'), ContentFilteredError, "400: "),
        (response("200 OK", FILTERED), ContentFilteredError, "its content filter withheld"),
        (response("400 No", b'{"error": {"message": "no such model"}}'), TerminalError, "400: no such model"),
        (response("302 Found", b"", "location: http://127.0.0.1:1/"), TerminalError, "answered 302"),
        (response("200 OK", b""), RetryableError, "without a completion"),
        (response("200 OK", b'{"choices": []}'), RetryableError, "choices: is empty"),
        (response("200 OK", b"<html>"), RetryableError, "without a completion"),
        (response("200 OK", b"not gzip", "content-encoding: gzip"), RetryableError, "the body is not valid gzip"),
        (response("200 OK", gzip.compress(b"x" * 20_000_000), "content-encoding: gzip"), RetryableError, "more than"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{", RetryableError, "RemoteProtocolError"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", RetryableError, "RemoteProtocolError"),
        (b"", RetryableError, "RemoteProtocolError"),
        (b"HTTP/1.1 200 OK\r\nx: " + b"y" * 1_000_000, RetryableError, "gave no answer"),
    ],
    ids=[
        "500", "503", "429", "429 in ms", "quota", "filtered", "filtered answer", "400", "302", "empty",
        "no choices", "html", "bad gzip", "gzip bomb", "cut off",
        "not http", "hangs up", "endless header",
    ],
)  # fmt: skip
async def test_each_failure_has_one_error(serve: Serve, answer: bytes, error: type[Exception], says: str) -> None:
    async with serve(answering(answer)) as url, one(url, concurrency=1) as backends:
        for _ in range(2):  # the only slot was released
            with pytest.raises(error, match=says) as caught:
                await ask(backends)
        if b"retry-after" in answer:
            assert isinstance(caught.value, RetryableError)
            assert caught.value.retry_after == 7.0


async def test_a_refused_connection_is_retryable() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        async with one(f"http://127.0.0.1:{reserved.getsockname()[1]}") as backends:
            with pytest.raises(RetryableError, match="gave no answer: ConnectError"):
                await ask(backends)


async def test_a_hanging_server_is_abandoned_at_the_deadline(serve: Serve) -> None:
    async with serve(hang) as url, one(url) as backends:
        with pytest.raises(DeadlineExceededError, match=r"within the 0\.2 s until the deadline"):
            await ask(backends, remaining=0.2)


async def test_a_hanging_server_is_abandoned_at_its_timeout(serve: Serve) -> None:
    async with serve(hang) as url, one(url, timeout=0.2) as backends:
        with pytest.raises(RetryableError, match=r"did not answer within 0\.2 s"):
            await ask(backends)


async def test_queueing_for_a_slot_counts_against_the_deadline(serve: Serve) -> None:
    async with serve(hang) as url, one(url, concurrency=1) as backends:
        first = asyncio.create_task(ask(backends))
        with pytest.raises(DeadlineExceededError):
            await ask(backends, remaining=0.2)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first


async def test_concurrency_is_limited(serve: Serve) -> None:
    at_once, most, three = 0, 0, asyncio.Barrier(3)

    async def counted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal at_once, most
        while True:
            await read_request(reader)
            at_once += 1
            most = max(most, at_once)
            await three.wait()
            at_once -= 1
            writer.write(response("200 OK", ANSWER))

    async with serve(counted) as url, one(url, concurrency=3) as backends:
        await asyncio.gather(*(ask(backends) for _ in range(21)))
    assert most == 3


async def test_a_cancelled_request_closes_its_connection_and_releases_its_slot(serve: Serve) -> None:
    requested, closed = asyncio.Queue[None](), asyncio.Queue[None]()

    async def watched(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        requested.put_nowait(None)
        assert await reader.read() == b""
        closed.put_nowait(None)

    async with serve(watched) as url, one(url, concurrency=1) as backends:
        for _ in range(5):
            task = asyncio.create_task(ask(backends))
            await requested.get()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.wait_for(closed.get(), 10)


async def test_an_outage_of_a_backend_shows_in_the_metrics(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    script = answering(response("500 Oops", b""), response("429 Slow", b""), response("200 OK", ANSWER))

    def up() -> list[tuple[float, object]]:
        return [(value, attributes) for value, attributes in observations(semconv.BACKEND_UP)]

    async with serve(script) as url, one(url) as backends:
        assert up() == []
        with caplog.at_level(logging.INFO, "poise_services.inference"), pytest.raises(RetryableError):
            await ask(backends)
        assert up() == [(0, {semconv.BACKEND: "default"})]
        with caplog.at_level(logging.INFO, "poise_services.inference"), pytest.raises(RateLimitedError):
            await ask(backends)  # rate-limited, but up
        assert up() == [(1, {semconv.BACKEND: "default"})]
        await ask(backends)
        assert up() == [(1, {semconv.BACKEND: "default"})]
    assert [record.message for record in caplog.records if record.name.startswith("poise_services")] == [
        f"backend default at {url.removeprefix('http://')} is down: backend default answered 500: without a reason",
        "backend default is back",
    ]
    assert up() == []


async def test_a_proxy_of_the_environment_is_not_used_for_loopback(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    async with serve(answering(response("200 OK", ANSWER))) as url, one(url) as backends:
        assert (await ask(backends)).text == "Because."


async def test_an_unknown_backend_is_named() -> None:
    async with one("http://127.0.0.1:9") as backends:
        with pytest.raises(UnavailableError, match="no backend 'large', only default"):
            backends.get("large")
