"""HTTP protocol: uvicorn's, with limits of time and size for what a client sends and reads.

A connection is in one of these phases, each with an end of its own:

    head        the head of a request is awaited: `head_timeout`
    body        its body is under way: `body_timeout`, and longer by what has come
    answering   the request is there: its handler has limits of its own
    idle        between two requests: `idle_timeout`, by uvicorn
    closing     answered before all of the request was read: what still comes is discarded, up to `LINGER_BYTES` and
                `LINGER_TIME`, so that the client can read the answer. Closing at once would reset the connection, and a
                client that is reset drops an answer that it has not read yet.

Whenever a client reads slower than it is written to: `write_timeout`, and longer by what waits for it.
"""

import asyncio
import contextlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, cast

import h11
from uvicorn._types import ASGIReceiveCallable, ASGISendCallable, ASGISendEvent, Scope
from uvicorn.protocols.http.flow_control import CLOSE_HEADER
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol

from poise.contracts import Fault
from poise.errors import InvalidMessageError, PoiseError
from poise.telemetry import count, semconv
from poise_services.gateway.connections import Connections, no_room, peer_of
from poise_services.gateway.problems import PROBLEM, RequestTimeoutError

LARGEST_HEAD: Final = 32 * 1024
"""Bytes of a request's head; a larger one is refused with 431."""
LINGER_BYTES: Final = 16 * 1024 * 1024
LINGER_TIME: Final = 10.0
"""Seconds."""


class _Transport(asyncio.Transport):
    """A connection as uvicorn sees it: when uvicorn closes it, the protocol ends it in order."""

    def __init__(self, transport: asyncio.Transport, end: Callable[[], None]) -> None:
        super().__init__()
        self._transport = transport
        self._end = end
        self._closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._transport.write(data)

    def is_closing(self) -> bool:
        return self._closed or self._transport.is_closing()

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._end()

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)


@dataclass(slots=True)
class _Taken:
    """Bytes of the budget that a request has taken, until it is answered and its handler has ended."""

    bytes: int = 0
    handled: bool = False


class LimitedProtocol(H11Protocol):
    """One connection.

    Args:
        connections: All of them, and their limits.
        uvicorn: What uvicorn gives its protocols.
    """

    def __init__(self, connections: Connections, **uvicorn: Any) -> None:
        super().__init__(**uvicorn)
        self._application, self.app = self.app, self._answer
        self._all = connections
        self._limits = connections.limits
        self._peer = ""
        self._raw: asyncio.Transport = cast("asyncio.Transport", None)  # until the connection is made
        self._phase = ""
        self._timer: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        self._began = 0.0
        self._received = 0
        self._taken = _Taken()
        self._discard: int | None = None
        self._refused = False

    # -- the connection -------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a connection, or refuse it."""
        self._raw = cast("asyncio.Transport", transport)
        super().connection_made(_Transport(self._raw, self._end))
        self._peer = peer_of(self.client[0] if self.client else None)
        try:
            self._all.enter(self._peer)
        except PoiseError as error:
            if self._all.overfull():
                self._raw.abort()
            else:
                self._refuse(error.fault(), "connections")
        else:
            self._enter("head")

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave nothing behind."""
        super().connection_lost(exc)
        self._enter("")
        self._stop_waiting_for_reader()
        self._all.leave(self._peer)
        if not self._taken.handled:
            self._all.budget.give(self._taken.bytes)

    def close_idle(self) -> None:
        """Make room for another connection: on this one no request is under way."""
        count(semconv.HTTP_REFUSED, 1, {semconv.REASON: "idle"})
        self.transport.close()

    def shutdown(self) -> None:
        """The gateway is leaving: nothing is discarded any more."""
        if self._discard is None:
            super().shutdown()
        else:
            self._raw.abort()

    def _end(self) -> None:
        """All of the answer is written: close, once it is read, and where the request goes on, once that has ended."""
        if self._refused or self.conn.their_state is h11.SEND_BODY:
            self._discard = LINGER_BYTES
            self._raw.resume_reading()  # that the client has gone is only known by reading
            self._enter("closing")
            with contextlib.suppress(OSError):  # it has gone
                self._raw.write_eof()
        else:
            self._enter("answering")
            self._raw.close()
        self._wait_for_reader()

    # -- what is received -----------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Take bytes of a request, as long as there is room for them."""
        if self._discard is not None:
            self._discard -= len(data)
            if self._discard < 0:
                self._raw.abort()
            return
        if not self._all.budget.take(len(data), self._taken.bytes):
            self._refuse(no_room("bytes of requests").fault(), "bytes")
            return
        self._taken.bytes += len(data)
        self._received += len(data)
        super().data_received(data)
        self._look()

    def _look(self) -> None:
        """See which phase the request is in now."""
        state = self.conn.their_state
        if state is h11.SEND_BODY:
            if self._phase != "body" and not self._fits():
                self._refuse(no_room("bytes of requests").fault(), "bytes")
                return
            self._enter("body")
        elif state is h11.IDLE:
            self._enter("head")
        else:
            self._enter("answering")

    def _fits(self) -> bool:
        """Whether there is room for the body that was announced; one that is larger than any may be is answered 413."""
        length = int(dict(self.headers).get(b"content-length", b"0")[:18])
        held = self._taken.bytes
        return length > self._all.largest_body or self._all.budget.room(max(0, length - held), held)

    async def _answer(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """Have the application answer a request; an answer that does not wait for all of the request is the last."""
        cycle, taken = self.cycle, self._taken
        taken.handled = True

        async def answer(message: ASGISendEvent) -> None:
            if message["type"] == "http.response.start" and cycle.more_body:
                message["headers"] = [*message.get("headers", ()), CLOSE_HEADER]
            await send(message)

        try:
            if not self._refused:
                await self._application(scope, receive, answer)
        finally:
            self._all.budget.give(taken.bytes)
            taken.bytes, taken.handled = 0, False

    def on_response_complete(self) -> None:
        """Go on to the next request, to which what has come behind this one belongs."""
        behind = min(self._taken.bytes, len(self.conn.trailing_data[0]))
        self._taken.bytes -= behind
        self._taken = _Taken(behind)
        super().on_response_complete()
        if self.conn.their_state is h11.IDLE:
            self._enter("head" if self.conn.trailing_data[0] else "idle")

    # -- phases and their ends ------------------------------------------------------------------------------------

    def _enter(self, phase: str) -> None:
        if phase == self._phase or (phase and self._phase == "closing"):
            return
        self._phase = phase
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._began, self._received = self.loop.time(), 0
        if phase in {"head", "idle"}:
            self._all.waits(self._peer, self.close_idle)
        else:
            self._all.works(self.close_idle)
        within = {"head": self._limits.head_timeout, "body": self._limits.body_timeout, "closing": LINGER_TIME}
        if phase in within:
            self._timer = self.loop.call_later(within[phase], self._too_late)

    def _too_late(self) -> None:
        self._timer = None
        if self._phase == "closing":
            self._raw.abort()
            return
        if self._phase == "body":
            until = self._began + self._limits.body_timeout + self._received / self._limits.least_rate
            if self.loop.time() < until:
                self._timer = self.loop.call_at(until, self._too_late)
                return
        if self._phase == "head" and not self.conn.trailing_data[0]:
            count(semconv.HTTP_REFUSED, 1, {semconv.REASON: "silent"})
            self.transport.close()  # nothing was asked, so there is nothing to answer
            return
        told = f"the {self._phase} of the request did not come in time: send it faster"
        self._refuse(RequestTimeoutError(told).fault(), self._phase)

    def pause_writing(self) -> None:
        """The client reads slower than it is written to."""
        super().pause_writing()
        self._wait_for_reader()

    def resume_writing(self) -> None:
        """It has read most of it."""
        super().resume_writing()
        if not self.transport.is_closing():
            self._stop_waiting_for_reader()

    def _wait_for_reader(self) -> None:
        waits = self._raw.get_write_buffer_size()
        if waits and self._unread is None:
            within = self._limits.write_timeout + waits / self._limits.least_rate
            self._unread = self.loop.call_later(within, self._not_read)

    def _stop_waiting_for_reader(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _not_read(self) -> None:
        count(semconv.HTTP_REFUSED, 1, {semconv.REASON: "unread"})
        self._raw.abort()

    # -- refusing -------------------------------------------------------------------------------------------------

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP; uvicorn calls this while it handles h11's error, which knows more."""
        error = sys.exception()
        status, detail = HTTPStatus.BAD_REQUEST, msg
        if isinstance(error, h11.RemoteProtocolError):
            status, detail = HTTPStatus(error.error_status_hint), str(error)
        fault = InvalidMessageError(f"this is no HTTP/1.1 request that is understood here: {detail}").fault()
        self._refuse(fault.model_copy(update={"status": int(status)}), "malformed")

    def _refuse(self, fault: Fault, reason: str) -> None:
        """Answer with a problem instead of the application, and end the connection."""
        count(semconv.HTTP_REFUSED, 1, {semconv.REASON: reason})
        self._refused = True
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True  # as if the client had gone: the handler stops
            self.cycle.message_event.set()
        if self.conn.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
            self._raw.abort()  # in the middle of an answer there is no place for another
            return
        body = fault.encode()
        headers = [("content-type", PROBLEM), ("content-length", str(len(body))), ("connection", "close")]
        if fault.retry_after is not None:
            headers.append(("retry-after", f"{fault.retry_after:.0f}"))
        response = h11.Response(status_code=fault.status, headers=headers, reason=STATUS_PHRASES[fault.status])
        with contextlib.suppress(h11.LocalProtocolError):  # it cannot: then the connection ends without
            for event in (response, h11.Data(data=body), h11.EndOfMessage()):
                self._raw.write(self.conn.send(event) or b"")
        self.transport.close()
