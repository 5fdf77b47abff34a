"""Injections over HTTP: oversized and slow documents, languages, epochs, numbers, slow clients."""

import asyncio
import contextlib
import random
import time
from typing import Final
from urllib.parse import urlsplit

import httpx2

from poise.contracts import Epoch, Fault
from tests.soak.injection import UnexpectedError
from tests.soak.load import SoakLoad

SLOW_CLIENTS: Final = 20
SLOW_FOR: Final = 40.0
"""Seconds within which a slow client must be disconnected."""
HUGE: Final = ("1" + "0" * 400, "9" * 5_000, "-" + "9" * 5_000, "1e999999", "9" * 19, "-1")
PATTERNS: Final = {
    "heading": "# a" + " " * 30_000 + "x",
    "rule line": "Keel\n\n" + "-" * 45_000 + "x",
    "short sentences": "A. " * 2_000,
}


async def oversized_documents(load: SoakLoad, chance: random.Random) -> str:
    """Ingest two documents of one sentence and 790,000 spaces and ask about them; or one that is too large."""
    if chance.random() < 0.3:
        response = await load.http.post("/v1/documents", json={"id": "large", "text": "x" * 4_000_000})
        return _refused(response, 400, 413, 429, 503)
    text = "A breakwater is long." + " " * 790_000
    documents = [{"id": f"breakwater-{number}", "text": f"{number} {text}"} for number in (1, 2)]
    response = await load.http.post("/v1/documents", json=documents)
    if response.status_code != httpx2.codes.ACCEPTED:
        return _refused(response, 400, 413, 429, 503)
    ask = {"question": "How long is a breakwater?", "cache": "no-store"}
    headers = {"poise-min-epoch": response.json()["epoch"]}
    return await _answered(load, ask, headers)


async def slow_pattern(load: SoakLoad, chance: random.Random) -> str:
    """Ingest a text that is slow for backtracking patterns, then send an ask that finds it."""
    name = chance.choice(sorted(PATTERNS))
    document = {"id": f"slow-{name}", "text": f"The keel is long.\n\n{PATTERNS[name]}", "format": "markdown"}
    response = await load.http.post("/v1/documents", json=document)
    if response.status_code != httpx2.codes.ACCEPTED:
        return _refused(response, 400, 413, 429, 503)
    headers = {"poise-min-epoch": response.json()["epoch"]}
    return f"{name}: {await _answered(load, {'question': 'How long is the keel?', 'cache': 'no-store'}, headers)}"


async def slow_language(load: SoakLoad, _: random.Random) -> str:
    """Ask with an `Accept-Language` of 60 kB, on which a backtracking pattern spends a minute."""
    headers = {"accept-language": "a" * 60_000 + "!"}
    return await _answered(load, {"question": "How does a lighthouse warn ships?"}, headers)


async def epoch_beyond_the_end(load: SoakLoad, chance: random.Random) -> str:
    """Ask for an epoch that cannot exist, with a long deadline: refused at once, and no slot is held."""
    answer = await load.http.post("/v1/ask", json={"question": "How does a lighthouse warn ships?"})
    if answer.status_code != httpx2.codes.OK or "epoch" not in answer.json():
        return "no epoch to start from"
    epoch = Epoch.decode(answer.json()["epoch"])
    beyond = epoch.with_offset(chance.randrange(6), 10**12, time.time()).encode()
    headers = {"poise-min-epoch": beyond, "poise-deadline": str(round((time.time() + 290) * 1_000))}
    began = time.monotonic()
    asks = [load.http.post("/v1/ask", json={"question": "?"}, headers=headers) for _ in range(8)]
    results = {_refused(response, 400, 503) for response in await asyncio.gather(*asks)}
    return f"{', '.join(sorted(results))} after {time.monotonic() - began:.1f} s"


async def number_in_a_request(load: SoakLoad, chance: random.Random) -> str:
    """Send a number of any size in a header or a field of an HTTP request: refused, never a 5xx of a bug."""
    number = chance.choice(HUGE)
    run = "01a20cfa-40a1-77dd-97d6-7967402ebec2"
    requests: tuple[tuple[str, str, dict[str, str] | None, dict[str, str]], ...] = (
        ("POST", "/v1/ask", {"question": "x"}, {"poise-deadline": number}),
        ("POST", "/v1/feedback", {"run_id": run, "rating": number}, {}),
        ("POST", "/v1/ask", {"question": "x"}, {"poise-min-epoch": f"e1.x.0~{number.lstrip('-')}~1"}),
        ("POST", "/v1/ask", {"question": "x"}, {"content-length": "1" + "0" * 30}),
        ("GET", f"/v1/runs/{number[:200]}", None, {}),
    )
    method, path, body, headers = chance.choice(requests)
    try:
        response = await load.http.request(method, path, json=body, headers=headers)
    except httpx2.TransportError as error:
        return f"closed: {type(error).__name__}"
    return _refused(response, 400, 404, 413, 422, 429, 503, 504)


async def slow_clients(load: SoakLoad, chance: random.Random) -> str:
    """Connect clients that send single bytes of their head or body forever: they are disconnected."""
    head = b"POST /v1/documents HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    if chance.random() < 0.5:
        head += b"content-length: 900000\r\n\r\n"
    ends = await asyncio.gather(*(_is_disconnected(load, head) for _ in range(SLOW_CLIENTS)))
    if not all(ends):
        raise UnexpectedError(f"{ends.count(False)} of {SLOW_CLIENTS} slow clients are still connected")
    return f"{SLOW_CLIENTS} disconnected"


async def _is_disconnected(load: SoakLoad, head: bytes) -> bool:
    """Return whether the gateway ended the connection of a slow client."""
    url = urlsplit(load.mesh.gateway_url)
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    try:
        writer.write(head)
        async with asyncio.timeout(SLOW_FOR):
            while True:
                writer.write(b"a")
                await writer.drain()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(1.0):
                        if not await reader.read(4_096):
                            return True
    except TimeoutError:
        return False
    except ConnectionError:
        return True
    finally:
        writer.close()


async def _answered(load: SoakLoad, ask: dict[str, str], headers: dict[str, str]) -> str:
    response = await load.http.post("/v1/ask", json=ask, headers=headers)
    if response.status_code == httpx2.codes.OK:
        return f"answered {response.json()['rung']}"
    return _refused(response, 400, 429, 431, 503, 504)


def _refused(response: httpx2.Response, *allowed: int) -> str:
    if response.status_code not in allowed:
        raise UnexpectedError(f"HTTP {response.status_code}: {response.text[:200]}")
    return f"refused {response.status_code} {Fault.parse(response.content).type}"
