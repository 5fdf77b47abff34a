"""A process whose model server and API answer with bombs: small bodies that become large when inflated or parsed.

Prints, as JSON, the error of each client, and the peak growth of this process in megabytes.
"""

import asyncio
import gzip
import json
import resource
import sys
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable

from http_kit import http_response, scripted_server

from poise.contracts import ChatMessage, Generate
from poise.errors import PoiseError
from poise_services.inference.backends import Backends
from poise_services.inference.settings import InferenceSettings
from poise_services.integration.api_clients import ApiClients
from poise_services.integration.settings import IntegrationSettings

MEGABYTE = 1024 * 1024
JSON_TYPE, EVENTS = "content-type: application/json", "content-type: text/event-stream"


def inflating(megabytes: int, wbits: int, beginning: bytes) -> bytes:
    """Return `megabytes` of spaces, compressed."""
    stream = zlib.compressobj(9, zlib.DEFLATED, wbits)
    return b"".join(
        [stream.compress(beginning), *(stream.compress(b" " * MEGABYTE) for _ in range(megabytes)), stream.flush()]
    )


def bombs(beginning: bytes) -> dict[str, tuple[bytes, str]]:
    """Return, by name, a body and its encoding; `beginning` turns it into the start of an event or of JSON."""
    values = beginning + b'{"error": [' + b'{"a":1},' * (MEGABYTE - 100) + b"1]}"  # 8 MB
    once = inflating(40, 31, beginning)
    return {
        "gzip": (once, "gzip"),
        "deflate": (inflating(40, 15, beginning), "deflate"),
        "raw deflate": (inflating(40, -15, beginning), "deflate"),
        "gzip in gzip": (gzip.compress(once, 9), "gzip, gzip"),
        "five times": (gzip.compress(gzip.compress(once, 9), 9), "gzip, deflate, gzip, gzip, x-gzip"),
        "br": (once, "br"),
        "zstd": (once, "zstd"),
        "values": (values, "identity"),
        "values in gzip": (gzip.compress(values, 9), "gzip"),
        "plain": (beginning + b" " * 12 * MEGABYTE, "identity"),
    }


async def outcome(ask: Callable[[], Awaitable[object]]) -> str:
    """Return the result or the error of a call as text."""
    try:
        return f"answered {await ask()!r}"
    except PoiseError as error:
        return f"{type(error).__name__}: {error}"[:200]


async def inference(bomb: tuple[bytes, str], *, streamed: bool) -> str:
    """Return the outcome of a call to a model server that answers with a bomb."""
    body, encoding = bomb

    async def write(_: str) -> None:
        return None

    answer = http_response("200 OK", body, f"content-encoding: {encoding}", EVENTS if streamed else JSON_TYPE)
    asked = Generate(messages=(ChatMessage(role="user", content="Why?"),))
    async with scripted_server(answer) as server:
        settings = {"backends": {"default": {"url": server.url, "model": "m"}}}
        async with Backends(InferenceSettings.model_validate(settings)) as backends:
            model = backends.get("default")
            said = await outcome(lambda: model.complete(asked, remaining=60, write=write if streamed else None))
        assert all("accept-encoding: identity" in headers for _, headers, _ in server.requests)
    return said


async def integration(bomb: tuple[bytes, str]) -> str:
    """Return the outcome of a call to an API that answers with a bomb."""
    body, encoding = bomb
    async with scripted_server(http_response("200 OK", body, f"content-encoding: {encoding}")) as server:
        api = {"url": f"{server.url}/", "pointer": "/text", "max_bytes": 9 * MEGABYTE, "timeout": 60}
        async with ApiClients(IntegrationSettings.model_validate({"integrations": {"weather": api}})) as apis:
            said = await outcome(lambda: apis.get("weather").fetch({}, remaining=100))
        assert all("accept-encoding: identity" in headers for _, headers, _ in server.requests)
    return said


async def all_of_them() -> AsyncIterator[tuple[str, str]]:
    """Yield the outcome of each client for each bomb."""
    for name, bomb in bombs(b"").items():
        yield f"inference, {name}", await inference(bomb, streamed=False)
        yield f"integration, {name}", await integration(bomb)
    for name, bomb in bombs(b"data: ").items():
        yield f"stream, {name}", await inference(bomb, streamed=True)


def peak() -> float:
    """Return the peak memory of this process in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def main() -> None:
    """Try each bomb on each client."""
    bombs(b"data: ")  # so that creating them is not counted
    before, most = peak(), {}
    said = {}
    async for name, text in all_of_them():
        said[name] = text
        most[name] = peak() - before
    json.dump({"said": said, "grew": most}, sys.stdout)


if __name__ == "__main__":
    asyncio.run(main())
