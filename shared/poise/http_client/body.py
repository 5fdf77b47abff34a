"""Bodies of HTTP answers, piece by piece and never more than a limit, whatever they are compressed with.

Servers are asked for `identity`. Some compress all the same (a store of files that are kept as gzip), so gzip and
deflate are inflated, in pieces that are counted; another encoding, or one inside another, is refused.
"""

import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from typing import Final, Protocol

ACCEPT_ENCODING: Final = {"accept-encoding": "identity"}
"""To be sent with each request."""
_DECODED: Final = frozenset({"gzip", "x-gzip", "deflate"})
_CHUNK_BYTES: Final = 64 * 1024
"""Bytes that are inflated at once."""
_GZIP_OR_ZLIB: Final = zlib.MAX_WBITS | 32
"""zlib looks at the first bytes for which of the two it is."""


class BodyError(Exception):
    """A body cannot be read."""


class BodyTooLargeError(BodyError):
    """A body is larger than its limit."""


class Response(Protocol):
    """What is read of an httpx2 response."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Its headers, repeated ones joined by commas."""

    def aiter_raw(self) -> AsyncIterator[bytes]:
        """Its body as it comes from the network."""


async def iter_body(response: Response, limit: int) -> AsyncGenerator[bytes]:
    """The body of a response in pieces of at most 64 KiB or, not compressed, as they come.

    Args:
        response: Its body has not been read.
        limit: Bytes, compressed or not.

    Raises:
        BodyTooLargeError: It is larger.
        BodyError: Its encoding is not one that is read, or what came is not in it.
    """
    inflating = _decoder(response.headers.get("content-encoding", ""))
    came = size = 0
    async for raw in response.aiter_raw():
        came += len(raw)  # compressed bytes that inflate to nothing count too
        for piece in inflating.pieces(raw) if inflating else (raw,):
            size += len(piece)
            if max(came, size) > limit:
                raise BodyTooLargeError(f"more than {limit} bytes")
            yield piece
    if inflating is not None:
        inflating.finish()


def _decoder(content_encoding: str) -> "_Decoder | None":
    codings = [name for part in content_encoding.split(",") if (name := part.strip().lower()) not in {"", "identity"}]
    if not codings:
        return None
    if len(codings) > 1 or codings[0] not in _DECODED:
        raise BodyError(f"content-encoding {', '.join(codings)[:80]!r} is not read: identity was asked for")
    return _Decoder(codings[0])


class _Decoder:
    """Inflates one gzip or zlib stream; what follows its end is dropped."""

    def __init__(self, coding: str) -> None:
        self._coding = coding
        self._stream = zlib.decompressobj(_GZIP_OR_ZLIB)

    def pieces(self, raw: bytes) -> Iterator[bytes]:
        while not self._stream.eof:
            try:
                piece = self._stream.decompress(raw, _CHUNK_BYTES)
            except zlib.error as error:
                raise BodyError(f"what came is not {self._coding}: {error}") from error
            raw = self._stream.unconsumed_tail
            if piece:
                yield piece
            elif not raw:
                return

    def finish(self) -> None:
        if not self._stream.eof:
            raise BodyError(f"its {self._coding} was cut off")
