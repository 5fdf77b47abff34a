"""Server-sent events, with any chunk boundaries."""

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise.http_client.body import BodyTooLargeError
from poise_services.inference.sse import iter_event_data


def read(*chunks: bytes, limit: int = 10_000) -> list[bytes]:
    """Return the data of the events of a body that arrives in chunks."""

    async def body() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    async def events() -> list[bytes]:
        response = httpx2.Response(200, content=body(), request=httpx2.Request("POST", "http://model"))
        return [data async for data in iter_event_data(response, limit)]

    return asyncio.run(events())


@pytest.mark.parametrize(
    ("body", "events"),
    [
        (b"data: a\n\ndata: b\n\n", [b"a", b"b"]),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", [b"a", b"b"]),
        (b"data: a\r\rdata: b\r\r", [b"a", b"b"]),
        (b"data:a\n\n", [b"a"]),
        (b"data:  a\n\n", [b" a"]),
        (b"data: a\ndata: b\n\n", [b"a\nb"]),
        (b"data\n\n", []),
        (b"id: 1\n\n", []),
        (b": a comment\n\n:\n\ndata: a\n\n", [b"a"]),
        (b"event: x\nid: 1\nretry: 5\ndata: a\n\n", [b"a"]),
        (b"dataset: a\n\n", []),
        (b"\n\n\n", []),
        (b"data: a", [b"a"]),
        (b"data: a\n", [b"a"]),
        (b"data: a\r\n\r", [b"a"]),
        (b"\xef\xbb\xbfdata: a\n\n\xef\xbb\xbfdata: b\n\n", [b"a"]),
        (b"", []),
        ("data: 語\n\n".encode(), ["語".encode()]),
    ],
)
def test_events_are_parsed(body: bytes, events: list[bytes]) -> None:
    assert read(body) == events
    assert read(*(bytes([byte]) for byte in body)) == events


_LINES = st.sampled_from([b"data: a", b"data: {}", b": ping", b"", b"event: x", "data: ü".encode()])
_BODIES = st.lists(st.tuples(_LINES, st.sampled_from([b"\n", b"\r\n"]))).map(lambda ls: b"".join(x + y for x, y in ls))


@given(_BODIES, st.lists(st.integers(0, 100), max_size=8))
def test_chunk_boundaries_make_no_difference(body: bytes, cuts: list[int]) -> None:
    bounds = sorted({0, len(body), *(cut for cut in cuts if cut < len(body))})
    assert read(*(body[start:end] for start, end in pairwise(bounds))) == read(body)


@given(st.lists(st.binary(max_size=40)))
def test_no_bytes_break_the_parser(chunks: list[bytes]) -> None:
    assert all(b"\n" not in line for data in read(*chunks) for line in data.split(b"\n"))


def test_a_body_has_a_size_limit() -> None:
    with pytest.raises(BodyTooLargeError):
        read(b"data: ", 100 * b"a", limit=100)
