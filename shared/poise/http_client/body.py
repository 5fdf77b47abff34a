"""Reading the bodies of HTTP responses in chunks, up to a limit, also if they are compressed.

Requests ask for `identity`. Some servers compress anyway (such as stores of gzip files), so gzip and deflate are
decoded in chunks that are counted. Other encodings and several encodings are refused.
"""

import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from typing import Final, Protocol

ACCEPT_ENCODING: Final = {"accept-encoding": "identity"}
"""The header to send with each request."""
_DECODED: Final = frozenset({"gzip", "x-gzip", "deflate"})
_CHUNK_BYTES: Final = 64 * 1024
"""Bytes that are decoded at once."""
_GZIP_OR_ZLIB: Final = zlib.MAX_WBITS | 32
"""zlib detects the format from the first bytes."""


class BodyError(Exception):
    """A body cannot be read."""


class BodyTooLargeError(BodyError):
    """A body is larger than the limit."""


class Response(Protocol):
    """The attributes of an httpx2 response that are used."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers; repeated ones are joined by commas."""

    def aiter_raw(self) -> AsyncIterator[bytes]:
        """Yield the body as received from the network."""


async def iter_body(response: Response, limit: int) -> AsyncGenerator[bytes]:
    """Yield the body of a response: decoded chunks of at most 64 KiB, or uncompressed chunks as received.

    Args:
        response: A response whose body has not been read.
        limit: Maximum bytes of the body, before and after decoding.

    Raises:
        BodyTooLargeError: The body is larger.
        BodyError: The encoding is not supported, or the body is not valid in it.
    """
    decoder = _decoder(response.headers.get("content-encoding", ""))
    received = size = 0
    async for raw in response.aiter_raw():
        received += len(raw)  # compressed bytes count too: they may decode to nothing
        for chunk in decoder.chunks(raw) if decoder else (raw,):
            size += len(chunk)
            if max(received, size) > limit:
                raise BodyTooLargeError(f"more than {limit} bytes")
            yield chunk
    if decoder is not None:
        decoder.finish()


def _decoder(content_encoding: str) -> "_Decoder | None":
    codings = [name for part in content_encoding.split(",") if (name := part.strip().lower()) not in {"", "identity"}]
    if not codings:
        return None
    if len(codings) > 1 or codings[0] not in _DECODED:
        raise BodyError(f"content-encoding {', '.join(codings)[:80]!r} is not supported: identity was requested")
    return _Decoder(codings[0])


class _Decoder:
    """Decodes one gzip or zlib stream; data after its end is dropped."""

    def __init__(self, coding: str) -> None:
        self._coding = coding
        self._stream = zlib.decompressobj(_GZIP_OR_ZLIB)

    def chunks(self, raw: bytes) -> Iterator[bytes]:
        while not self._stream.eof:
            try:
                chunk = self._stream.decompress(raw, _CHUNK_BYTES)
            except zlib.error as error:
                raise BodyError(f"the body is not valid {self._coding}: {error}") from error
            raw = self._stream.unconsumed_tail
            if chunk:
                yield chunk
            elif not raw:
                return

    def finish(self) -> None:
        if not self._stream.eof:
            raise BodyError(f"the {self._coding} body was truncated")
