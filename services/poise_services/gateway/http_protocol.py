"""uvicorn's HTTP protocol with limits on time and size.

A connection is in one of these phases. Each phase has its own timeout:

    head        waiting for the head of a request: `header_timeout`
    body        receiving its body: `body_timeout`, extended by the bytes received
    answering   the request is complete: its handler has its own limits
    idle        between two requests: `idle_timeout`, enforced by uvicorn
    closing     answered before the request was read completely: the rest is discarded, up to `LINGER_BYTES` and
                `LINGER_TIMEOUT`, so that the client can read the response. Closing at once would reset the connection,
                and a client drops an unread response on a reset.

While a client reads slower than the gateway writes: `write_timeout`, extended by the bytes in the write buffer.
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
from poise_services.gateway.connections import Connections, overloaded, peer_key
from poise_services.gateway.problems import PROBLEM_JSON, RequestTimeoutError

MAX_HEAD_BYTES: Final = 32 * 1024
"""Bytes of a request's head; a larger one is refused with 431."""
LINGER_BYTES: Final = 16 * 1024 * 1024
"""Bytes to discard of a request that was answered early."""
LINGER_TIMEOUT: Final = 10.0
"""Seconds to discard the rest of a request."""


class _GracefulTransport(asyncio.Transport):
    """The transport that uvicorn uses: `close` lets the protocol close the connection gracefully."""

    def __init__(self, transport: asyncio.Transport, close_gracefully: Callable[[], None]) -> None:
        super().__init__()
        self._transport = transport
        self._close_gracefully = close_gracefully
        self._closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._transport.write(data)

    def is_closing(self) -> bool:
        return self._closed or self._transport.is_closing()

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._close_gracefully()

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)


@dataclass(slots=True)
class _Reservation:
    """Bytes of the budget that a request holds until it is answered and its handler has ended."""

    bytes: int = 0
    handled: bool = False
    """Whether a handler runs, which releases the bytes when it ends."""


class LimitedProtocol(H11Protocol):
    """One connection.

    Args:
        connections: All connections, and their limits.
        uvicorn: uvicorn's arguments for a protocol.
    """

    def __init__(self, connections: Connections, **uvicorn: Any) -> None:
        super().__init__(**uvicorn)
        self._application = self.app
        self.app = self._answer
        self._connections = connections
        self._limits = connections.limits
        self._peer = ""
        self._socket: asyncio.Transport = cast("asyncio.Transport", None)  # until the connection is made
        self._phase = ""
        self._timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._phase_started_at = 0.0
        self._received = 0
        self._reservation = _Reservation()
        self._bytes_to_discard: int | None = None  # None = the connection is not closing
        self._refused = False

    # -- the connection -------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Accept or refuse a connection."""
        self._socket = cast("asyncio.Transport", transport)
        super().connection_made(_GracefulTransport(self._socket, self._close_gracefully))
        self._peer = peer_key(self.client[0] if self.client else None)
        try:
            self._connections.add(self._peer)
        except PoiseError as error:
            if self._connections.is_over_capacity():
                self._socket.abort()
            else:
                self._refuse(error.fault(), "connections")
        else:
            self._enter("head")

    def connection_lost(self, exc: Exception | None) -> None:
        """Release everything that the connection holds."""
        super().connection_lost(exc)
        self._enter("")
        self._stop_write_timeout()
        self._connections.remove(self._peer)
        if not self._reservation.handled:
            self._connections.budget.release(self._reservation.bytes)

    def close_idle(self) -> None:
        """Close the connection, which has no request in progress, to make room for another one."""
        count(semconv.HTTP_REFUSED, 1, {semconv.REASON: "idle"})
        self.transport.close()

    def shutdown(self) -> None:
        """Shut down: close the connection, without discarding the rest of a request."""
        if self._bytes_to_discard is None:
            super().shutdown()
        else:
            self._socket.abort()

    def _close_gracefully(self) -> None:
        """Close the connection once the client has read the response and, if it is still sending, has finished."""
        if self._refused or self.conn.their_state is h11.SEND_BODY:
            self._bytes_to_discard = LINGER_BYTES
            self._socket.resume_reading()  # only reading detects that the client has disconnected
            self._enter("closing")
            with contextlib.suppress(OSError):  # it has disconnected
                self._socket.write_eof()
        else:
            self._enter("answering")
            self._socket.close()
        self._start_write_timeout()

    # -- receiving ------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Receive bytes of a request, within the budget."""
        if self._bytes_to_discard is not None:
            self._bytes_to_discard -= len(data)
            if self._bytes_to_discard < 0:
                self._socket.abort()
            return
        if not self._connections.budget.reserve(len(data), self._reservation.bytes):
            self._refuse(overloaded("bytes of requests").fault(), "bytes")
            return
        self._reservation.bytes += len(data)
        self._received += len(data)
        super().data_received(data)
        self._update_phase()

    def _update_phase(self) -> None:
        """Enter the phase that the request has reached."""
        state = self.conn.their_state
        if state is h11.SEND_BODY:
            if self._phase != "body" and not self._body_fits():
                self._refuse(overloaded("bytes of requests").fault(), "bytes")
                return
            self._enter("body")
        elif state is h11.IDLE:
            self._enter("head")
        else:
            self._enter("answering")

    def _body_fits(self) -> bool:
        """Return whether the announced body fits the budget, or is above the limit, which is answered 413."""
        length = int(dict(self.headers).get(b"content-length", b"0")[:18])
        reserved = self._reservation.bytes
        return length > self._connections.largest_body or self._connections.budget.has_room(
            max(0, length - reserved), reserved
        )

    async def _answer(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """Let the application answer a request; an answer before the end of the request closes the connection."""
        cycle = self.cycle
        reservation = self._reservation
        reservation.handled = True

        async def answer(message: ASGISendEvent) -> None:
            if message["type"] == "http.response.start" and cycle.more_body:
                message["headers"] = [*message.get("headers", ()), CLOSE_HEADER]
            await send(message)

        try:
            if not self._refused:
                await self._application(scope, receive, answer)
        finally:
            self._connections.budget.release(reservation.bytes)
            reservation.bytes = 0
            reservation.handled = False

    def on_response_complete(self) -> None:
        """Continue with the next request, to which the bytes received after this one belong."""
        pipelined = min(self._reservation.bytes, len(self.conn.trailing_data[0]))
        self._reservation.bytes -= pipelined
        self._reservation = _Reservation(pipelined)
        super().on_response_complete()
        if self.conn.their_state is h11.IDLE:
            self._enter("head" if self.conn.trailing_data[0] else "idle")

    # -- phases and timeouts --------------------------------------------------------------------------------------

    def _enter(self, phase: str) -> None:
        if phase == self._phase or (phase and self._phase == "closing"):
            return
        self._phase = phase
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._phase_started_at = self.loop.time()
        self._received = 0
        if phase in {"head", "idle"}:
            self._connections.mark_idle(self._peer, self.close_idle)
        else:
            self._connections.mark_busy(self.close_idle)
        timeouts = {"head": self._limits.header_timeout, "body": self._limits.body_timeout, "closing": LINGER_TIMEOUT}
        if phase in timeouts:
            self._timer = self.loop.call_later(timeouts[phase], self._on_phase_timeout)

    def _on_phase_timeout(self) -> None:
        self._timer = None
        if self._phase == "closing":
            self._socket.abort()
            return
        if self._phase == "body":
            deadline = (
                self._phase_started_at + self._limits.body_timeout + self._received / self._limits.min_bytes_per_second
            )
            if self.loop.time() < deadline:
                self._timer = self.loop.call_at(deadline, self._on_phase_timeout)
                return
        if self._phase == "head" and not self.conn.trailing_data[0]:
            count(semconv.HTTP_REFUSED, 1, {semconv.REASON: "silent"})
            self.transport.close()  # there is no request to answer
            return
        detail = f"the {self._phase} of the request was not received in time: send it faster"
        self._refuse(RequestTimeoutError(detail).fault(), self._phase)

    def pause_writing(self) -> None:
        """Start the write timeout: the client reads slower than the gateway writes."""
        super().pause_writing()
        self._start_write_timeout()

    def resume_writing(self) -> None:
        """Stop the write timeout: the client has read most of the buffer."""
        super().resume_writing()
        if not self.transport.is_closing():
            self._stop_write_timeout()

    def _start_write_timeout(self) -> None:
        buffered = self._socket.get_write_buffer_size()
        if buffered and self._write_timer is None:
            timeout = self._limits.write_timeout + buffered / self._limits.min_bytes_per_second
            self._write_timer = self.loop.call_later(timeout, self._on_write_timeout)

    def _stop_write_timeout(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _on_write_timeout(self) -> None:
        count(semconv.HTTP_REFUSED, 1, {semconv.REASON: "unread"})
        self._socket.abort()

    # -- refusing -------------------------------------------------------------------------------------------------

    def send_400_response(self, msg: str) -> None:
        """Respond to malformed HTTP; uvicorn calls this while it handles h11's error, which has the details."""
        error = sys.exception()
        status, detail = HTTPStatus.BAD_REQUEST, msg
        if isinstance(error, h11.RemoteProtocolError):
            status, detail = HTTPStatus(error.error_status_hint), str(error)
        fault = InvalidMessageError(f"invalid HTTP/1.1 request: {detail}").fault()
        self._refuse(fault.model_copy(update={"status": int(status)}), "malformed")

    def _refuse(self, fault: Fault, reason: str) -> None:
        """Respond with a problem instead of the application's response, and close the connection."""
        count(semconv.HTTP_REFUSED, 1, {semconv.REASON: reason})
        self._refused = True
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True  # as if the client had disconnected, so that the handler stops
            self.cycle.message_event.set()
        if self.conn.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
            self._socket.abort()  # a response was started, so no other can be sent
            return
        body = fault.encode()
        headers = [("content-type", PROBLEM_JSON), ("content-length", str(len(body))), ("connection", "close")]
        if fault.retry_after is not None:
            headers.append(("retry-after", f"{fault.retry_after:.0f}"))
        response = h11.Response(status_code=fault.status, headers=headers, reason=STATUS_PHRASES[fault.status])
        with contextlib.suppress(h11.LocalProtocolError):  # it cannot be sent: close without a response
            for event in (response, h11.Data(data=body), h11.EndOfMessage()):
                self._socket.write(self.conn.send(event) or b"")
        self.transport.close()
