"""Event stream: an answer's words as server-sent events, while they come."""

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
"""Seconds of silence after which a comment is sent, so that nobody on the way takes the connection for dead."""

_HEADERS: Final = {
    "content-type": f"{EVENT_STREAM}; charset=utf-8",
    "cache-control": "no-store",
    "x-accel-buffering": "no",  # nginx would keep the words until the answer is whole
}
_QUALITY: Final = re.compile(r"[01](\.[0-9]{0,3})?")
_EVENT_NAMES: Final[Mapping[type[Message], str]] = {Delta: "delta", Reset: "reset", Answer: "answer"}

AnswerItems = AsyncGenerator[Delta | Reset | Answer]

logger = logging.getLogger(__name__)


def prefers_event_stream(request: Request) -> bool:
    """Whether the client prefers an event stream to JSON (RFC 9110, section 12.5.1).

    A generated client names every media type that the OpenAPI document has, all alike, and reads JSON: of types with
    the same quality it gets that.
    """
    qualities = {"application/json": 0.0, EVENT_STREAM: 0.0}
    for choice in ",".join(request.headers.getlist("accept")).lower().split(","):
        media_type, *parameters = (part.strip() for part in choice.split(";"))
        if media_type in qualities:
            given = next((one.removeprefix("q=") for one in parameters if one.startswith("q=")), "1")
            qualities[media_type] = float(given) if _QUALITY.fullmatch(given) else 0.0
    return qualities[EVENT_STREAM] > qualities["application/json"]


class EventWriter:
    """Writes events to a client. A client that does not read is waited for: its words stay where they are unread.

    Args:
        send: The server's.
        headers: Of the response, besides those of every event stream.
    """

    def __init__(self, send: Send, headers: Callable[[], Mapping[str, str]]) -> None:
        self.started = False
        self._send = send
        self._headers = headers
        self._number = 0

    async def relay(self, items: AnswerItems, *, keep_alive: float = KEEP_ALIVE_INTERVAL) -> None:
        """Write items as they come; when this ends, whatever its end, they are closed."""
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
        """End the response."""
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
    """A response that is written by `tell`.

    It begins with the first event, or the first comment: an error until then is a problem with a status of its own;
    later it is the event `fault`, the last one.

    Args:
        tell: Writes the events.
        headers: Of the response; asked for when it begins.
    """

    def __init__(
        self, tell: Callable[[EventWriter], Awaitable[None]], headers: Callable[[], Mapping[str, str]]
    ) -> None:
        super().__init__()
        self._tell = tell
        self._of_response = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's form
        """Write it all."""
        events = EventWriter(send, self._of_response)
        try:
            await self._tell(events)
        except ClientDisconnect:
            if not events.started:
                raise
            return  # nobody is there for the end of it
        except Exception as error:
            if not events.started:
                raise
            if not isinstance(error, PoiseError):
                logger.exception("an answer's stream broke off")
                error = PoiseError("the gateway failed on this request; its log says why")
            await events.write_event("fault", error.fault())
        await events.close()
