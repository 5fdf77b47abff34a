"""Reads server-sent events with httpx2, within a size limit."""

from collections.abc import AsyncGenerator, AsyncIterator
from http import HTTPStatus
from typing import Final

import httpx2

from poise.http_client.body import iter_body

EVENT_STREAM: Final = "text/event-stream"
_BLANK_LINE: Final = b"\n\n"


class _BoundedBody(httpx2.AsyncByteStream):
    """The decoded body of a response, up to a size limit, and a final blank line, which some servers omit."""

    def __init__(self, response: httpx2.Response, limit: int) -> None:
        self._response = response
        self._limit = limit

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in iter_body(self._response, self._limit):
            yield piece
        yield _BLANK_LINE


async def iter_event_data(response: httpx2.Response, limit: int) -> AsyncGenerator[bytes]:
    """Yield the data of each event that has data.

    Args:
        response: A response whose body has not been read.
        limit: Bytes of the body, compressed or not.

    Raises:
        BodyTooLargeError: The body is larger.
        BodyError: The body's encoding is not supported, or the body is damaged.
        httpx2.RequestError: The connection failed.
    """
    bounded = httpx2.Response(
        HTTPStatus.OK,
        headers={"content-type": EVENT_STREAM},
        stream=_BoundedBody(response, limit),
        request=response.request,
        default_encoding="utf-8-sig",  # the format is UTF-8, with or without a byte order mark
    )
    async for event in httpx2.EventSource(bounded, max_event_size=None):
        if event.data:
            yield event.data.encode()
