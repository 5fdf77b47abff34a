"""Streams an answer as server-sent events while it is generated."""

import asyncio
import logging
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from http import HTTPStatus
from typing import Final

from fastapi import Request, Response
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from poise.contracts import Answer, Delta, End, Message, Reset
from poise.errors import PoiseError

EVENT_STREAM: Final = "text/event-stream"
KEEP_ALIVE_INTERVAL: Final = 15.0
"""Seconds without an event after which a comment is sent, so that no proxy closes the connection as idle."""

_HEADERS: Final = {
    "content-type": f"{EVENT_STREAM}; charset=utf-8",
    "cache-control": "no-store",
    "x-accel-buffering": "no",  # nginx would buffer the events until the response ends
}
_QUALITY: Final = re.compile(r"[01](\.[0-9]{0,3})?")
_EVENT_NAMES: Final[Mapping[type[Message], str]] = {Delta: "delta", Reset: "reset", Answer: "answer"}

AnswerItems = AsyncGenerator[Delta | Reset | Answer]

logger = logging.getLogger(__name__)


def prefers_event_stream(request: Request) -> bool:
    """Return whether the client prefers an event stream to JSON (RFC 9110, section 12.5.1).

    At equal quality, JSON wins: a generated client accepts every media type of the OpenAPI document, and reads JSON.
    """
    qualities = {"application/json": 0.0, EVENT_STREAM: 0.0}
    for choice in ",".join(request.headers.getlist("accept")).lower().split(","):
        media_type, *parameters = (part.strip() for part in choice.split(";"))
        if media_type in qualities:
            quality = next((item.removeprefix("q=") for item in parameters if item.startswith("q=")), "1")
            qualities[media_type] = float(quality) if _QUALITY.fullmatch(quality) else 0.0
    return qualities[EVENT_STREAM] > qualities["application/json"]


class EventWriter:
    """Writes events to a client; while the client does not read, it requests no further item.

    Args:
        send: The server's ASGI callable.
        headers: Returns the response's headers besides those of every event stream.
    """

    def __init__(self, send: Send, headers: Callable[[], Mapping[str, str]]) -> None:
        self.started = False
        self._send = send
        self._headers = headers
        self._number = 0

    async def relay(self, items: AnswerItems, *, keep_alive: float = KEEP_ALIVE_INTERVAL) -> None:
        """Write items as they arrive; close the generator at the end, also after an error."""
        async with aclosing(items):
            while (item := await self._next(items, keep_alive)) is not None:
                if isinstance(item, Answer):
                    await self.write_event("end", End())
                await self.write_event(_EVENT_NAMES[type(item)], item)

    async def _next(self, items: AnswerItems, keep_alive: float) -> Delta | Reset | Answer | None:
        task = asyncio.create_task(_next_item(items))
        try:
            while not (await asyncio.wait({task}, timeout=keep_alive))[0]:
                await self._write(b": still here\n\n")
            return task.result()
        finally:
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def write_event(self, name: str, body: Message) -> None:
        """Write one event, numbered from 0."""
        await self._write(b"id: %d\nevent: %b\ndata: %b\n\n" % (self._number, name.encode(), body.encode()))
        self._number += 1

    async def close(self) -> None:
        """Finish the response."""
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _write(self, data: bytes) -> None:
        if not self.started:
            self.started = True
            headers = [(name.encode(), value.encode()) for name, value in {**_HEADERS, **self._headers()}.items()]
            await self._send({"type": "http.response.start", "status": HTTPStatus.OK, "headers": headers})
        await self._send({"type": "http.response.body", "body": data, "more_body": True})


async def _next_item(items: AnswerItems) -> Delta | Reset | Answer | None:
    return await anext(items, None)


class EventStreamResponse(Response):
    """A response of server-sent events.

    It starts with the first event or comment. An error before that is a problem response with its own status; a later
    one is the event `fault`, the last one.

    Args:
        write_events: Writes the events.
        headers: Returns the response's headers; called when the response starts.
    """

    def __init__(
        self, write_events: Callable[[EventWriter], Awaitable[None]], headers: Callable[[], Mapping[str, str]]
    ) -> None:
        super().__init__()
        self._write_events = write_events
        self._response_headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        """Write the response."""
        events = EventWriter(send, self._response_headers)
        try:
            await self._write_events(events)
        except ClientDisconnect:
            if not events.started:
                raise
            return  # the client will not read the end
        except Exception as error:
            if not events.started:
                raise
            if not isinstance(error, PoiseError):
                logger.exception("an answer's stream failed")
                error = PoiseError("the gateway failed on this request: see its log")
            await events.write_event("fault", error.fault())
        await events.close()
