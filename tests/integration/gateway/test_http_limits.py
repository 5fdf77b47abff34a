"""Clients that send too slowly or too much, open many connections or do not read are disconnected; others are not."""

import asyncio
import http.client
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import httpx2
import pytest
from integration_kit import until

from poise.contracts import Answer, Ask
from poise.telemetry import semconv
from poise.telemetry.metrics import observations
from poise.worker.context import Context
from poise.worker.runtime import WorkerRuntime

pytestmark = pytest.mark.integration

Open = Callable[..., AbstractAsyncContextManager[tuple[httpx2.AsyncClient, WorkerRuntime]]]
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]

NEVER = 1_000.0
"""Seconds: no test here reaches this limit."""
JSON = "content-type: application/json"
HALF = b"POST /v1/ask HTTP/1.1\r\nhost: 127.0.0.1\r\nx-slow: "


async def answer(_ask: Ask, context: Context) -> Answer:
    return Answer(run_id=context.run, text="Because.", rung="primary")


def gauge(instrument: semconv.Gauge) -> float:
    return sum(value for value, _ in observations(instrument))


def head(method: str, path: str, *headers: str) -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "host: 127.0.0.1", *headers, "", ""]).encode()


def port_of(client: httpx2.AsyncClient) -> int:
    return client.base_url.port or 0


@asynccontextmanager
async def connected(client: httpx2.AsyncClient, *first: bytes) -> AsyncIterator[list[Streams]]:
    """Open connections, and send the given first bytes on each."""
    opened = []
    try:
        for data in first:
            opened.append(await asyncio.open_connection("127.0.0.1", port_of(client)))
            opened[-1][1].write(data)
        yield opened
    finally:
        for _, writer in opened:
            writer.close()


async def read_problem(reader: asyncio.StreamReader) -> tuple[int, str, str]:
    """Return status, type and headers of the problem that ends a connection; (0, "", "") if it ended without one."""
    try:
        answered = await reader.read()
    except ConnectionResetError:
        return 0, "", ""
    if not answered:
        return 0, "", ""
    headers, _, body = answered.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in headers
    assert b"connection: close" in headers
    return int(headers.split()[1]), json.loads(body)["type"], headers.decode()


async def is_served(client: httpx2.AsyncClient) -> None:
    for _ in range(3):
        assert (await client.post("/v1/ask", json={"question": "Why?"})).json()["text"] == "Because."


async def test_a_slow_head_times_out(open_gateway: Open) -> None:
    async with (
        open_gateway(answer, limits={"header_timeout": 0.5}) as (client, _),
        connected(client, *[b"", HALF, HALF] * 100) as slow,
    ):
        await is_served(client)
        ends = await asyncio.gather(*(read_problem(reader) for reader, _ in slow))
        assert {kind for _, kind, _ in ends[1::3] + ends[2::3]} == {"urn:poise:request-timeout"}
        assert {status for status, _, _ in ends[::3]} == {0}, "there was no request, so there is nothing to answer"


async def test_a_slow_second_head_times_out(open_gateway: Open) -> None:
    async with (
        open_gateway(answer, limits={"header_timeout": 0.5, "idle_timeout": 1_000}) as (client, _),
        connected(client, head("GET", "/healthz") + b"GET /healthz HTT") as [(reader, _)],
    ):
        first = await reader.readuntil(b'{"status":"ok"}')
        assert first.startswith(b"HTTP/1.1 200")
        assert (await read_problem(reader))[:2] == (408, "urn:poise:request-timeout")


async def test_a_flood_of_connections_does_not_block_other_clients(open_gateway: Open) -> None:
    limits = {"max_connections": 50, "header_timeout": NEVER}
    async with open_gateway(answer, limits=limits) as (client, _), connected(client, *[HALF] * 400) as slow:
        await is_served(client)
        assert gauge(semconv.HTTP_CONNECTIONS) <= 50
        await until(lambda: sum(reader.at_eof() for reader, _ in slow) >= 350)


async def test_a_slow_body_times_out(open_gateway: Open) -> None:
    limits = {"body_timeout": 0.5, "min_bytes_per_second": 1_000_000}
    first = head("POST", "/v1/documents", JSON, "content-length: 100000") + b'{"id": "'
    async with open_gateway(answer, limits=limits) as (client, _), connected(client, *[first] * 200) as slow:
        await is_served(client)
        ends = await asyncio.gather(*(read_problem(reader) for reader, _ in slow))
        assert {(status, kind) for status, kind, _ in ends} == {(408, "urn:poise:request-timeout")}
    assert gauge(semconv.HTTP_BYTES) == 0


async def test_a_body_above_the_minimum_rate_does_not_time_out(open_gateway: Open) -> None:
    """Send a body in small pieces: slower than `body_timeout`, but faster than `min_bytes_per_second`."""
    body = json.dumps({"id": "slow", "text": "x" * 3_000}).encode()
    limits = {"body_timeout": 0.05, "min_bytes_per_second": 1}
    async with open_gateway(answer, limits=limits) as (client, _), connected(client, b"") as [(reader, writer)]:
        writer.write(head("POST", "/v1/documents", JSON, f"content-length: {len(body)}"))
        for start in range(0, len(body), 50):
            writer.write(body[start : start + 50])
            await writer.drain()
            await asyncio.sleep(0.002)
        assert (await reader.readline()).startswith(b"HTTP/1.1 202")


async def test_inflight_bytes_stay_within_their_budget(open_gateway: Open) -> None:
    most = 2_000_000
    limits = {"max_inflight_bytes": most, "body_timeout": NEVER}
    async with (
        open_gateway(answer, max_documents_bytes=400_000, limits=limits) as (client, _),
        connected(client, *[b""] * 120) as slow,
    ):
        seen: list[float] = []
        for number, (_, writer) in enumerate(slow):
            length = "transfer-encoding: chunked" if number % 2 else "content-length: 300000"
            chunk = b"46500\r\n" if number % 2 else b""  # in hexadecimal: 288,000
            writer.write(head("POST", "/v1/documents", JSON, length) + chunk + b" " * 250_000)
            await asyncio.sleep(0)
            seen.append(gauge(semconv.HTTP_BYTES))
        readers = [asyncio.create_task(read_problem(reader)) for reader, _ in slow]

        def nearly_all_are_refused() -> bool:
            seen.append(gauge(semconv.HTTP_BYTES))
            return sum(task.done() for task in readers) >= 110

        await until(nearly_all_are_refused)
        assert most / 4 < max(seen) <= most / 2
        await is_served(client)
        for task in readers:
            if task.done():
                status, kind, headers = task.result()
                assert (status, kind) == (503, "urn:poise:temporary")
                assert "retry-after: 1" in headers
        refused = await client.post("/v1/documents", json={"id": "a", "text": "x" * 390_000})
        assert refused.status_code == 503, "it is refused before it is read"
        for _, writer in slow:
            writer.close()
        await asyncio.gather(*readers)
        await until(lambda: gauge(semconv.HTTP_BYTES) == 0)
        assert (await client.post("/v1/documents", json={"id": "a", "text": "x" * 390_000})).status_code == 202


@pytest.mark.parametrize("size", [4_000_000, 8_000_000])
async def test_a_too_large_body_gets_a_response_however_it_is_sent(open_gateway: Open, size: int) -> None:
    body = b'{"id": "a", "text": "' + b"x" * size + b'"}'

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 65_536):
            yield body[start : start + 65_536]

    def post_without_expect(port: int) -> int:
        """Send the whole body, then read the response, with `Connection: close`, as `urllib` does."""
        connection = http.client.HTTPConnection("127.0.0.1", port)
        connection.request("POST", "/v1/documents", body, {"content-type": "application/json", "connection": "close"})
        status = connection.getresponse().status
        connection.close()
        return status

    async with open_gateway(answer, max_documents_bytes=1_000_000) as (client, _):
        headers = {"content-type": "application/json"}
        for close in ({}, {"connection": "close"}):
            for content in (body, chunks()):
                response = await client.post("/v1/documents", content=content, headers=headers | close)
                assert (response.status_code, response.json()["type"]) == (413, "urn:poise:too-large")
                assert response.headers["connection"] == "close"
        assert await asyncio.to_thread(post_without_expect, port_of(client)) == 413
        await is_served(client)
        await until(lambda: gauge(semconv.HTTP_BYTES) == 0)


async def test_expect_100_continue_gets_the_error_at_once(open_gateway: Open) -> None:
    """Send the headers as curl does for bodies above 1 MB."""
    async with (
        open_gateway(answer, max_documents_bytes=1_000_000) as (client, _),
        connected(client, b"") as [(reader, writer)],
    ):
        writer.write(head("POST", "/v1/documents", JSON, "content-length: 4000000", "expect: 100-continue"))
        assert (await read_problem(reader))[:2] == (413, "urn:poise:too-large")


async def test_an_unread_response_is_dropped(open_gateway: Open) -> None:
    async with (
        open_gateway(answer, limits={"write_timeout": 0.3, "min_bytes_per_second": 10_000_000}) as (client, _),
        connected(client, *[b""] * 5) as deaf,
    ):
        for _, writer in deaf:
            writer.transport.pause_reading()  # type: ignore[attr-defined]  # the client's
            writer.write(head("GET", "/openapi.json") * 1_000)
        await is_served(client)
        await until(lambda: gauge(semconv.HTTP_CONNECTIONS) <= 1 and gauge(semconv.HTTP_BYTES) == 0)


async def test_malformed_http_gets_a_problem(open_gateway: Open) -> None:
    async with open_gateway(answer) as (client, _):
        for sent, status in (
            (b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\nx: " + b"y" * 100_000, 431),
            (b"what is this\r\n\r\n", 400),
            (b"GET /healthz HTTP/1.1\r\n\r\n", 400),
            (head("POST", "/v1/ask", JSON, "transfer-encoding: gzip"), 501),
            (head("POST", "/v1/ask", JSON, "transfer-encoding: chunked") + b"zz\r\n", 400),
        ):
            async with connected(client, b"") as [(reader, writer)]:
                writer.write(sent)
                assert (await read_problem(reader))[:2] == (status, "urn:poise:invalid")
        await is_served(client)
        await until(lambda: gauge(semconv.HTTP_BYTES) == 0)
