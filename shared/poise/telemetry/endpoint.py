"""The admin endpoint of a process: `/healthz`, `/readyz` and `/metrics`.

It runs on the event loop of the process, so that a blocked loop fails the liveness probe.
"""

import asyncio
import errno
import json
from collections.abc import Callable, Collection, Iterable, Mapping
from http import HTTPStatus
from typing import Final

from poise.allowed_hosts import AllowedHosts
from poise.errors import SetupError

CLIENT_TIMEOUT: Final = 5.0
"""Seconds for a client to send its request and to read the response."""
MAX_REQUEST_BYTES: Final = 16_384
MAX_CONNECTIONS: Final = 64
"""Maximum of open connections; beyond it, the oldest is closed."""
PROMETHEUS: Final = "text/plain; version=1.0.0; charset=utf-8"

Reply = tuple[HTTPStatus, str, bytes]


class AdminEndpoint:
    """Serves health checks and metrics.

    Args:
        host: The interface to listen on.
        port: The port; 0 = any free port, see the property `port`.
        readiness: Returns the readiness checks by name, and whether each passes.
        metrics: Returns the page of `/metrics`; None = there is none.
        allowed_hosts: Names allowed in the header `Host`, besides its own.
    """

    def __init__(
        self,
        host: str,
        port: int,
        readiness: Callable[[], Mapping[str, bool]],
        metrics: Callable[[], bytes] | None = None,
        allowed_hosts: Collection[str] = (),
    ) -> None:
        self._host = host
        self._port = port
        self._readiness = readiness
        self._metrics = metrics
        self._server: asyncio.Server | None = None
        self._allowed = AllowedHosts(host, allowed_hosts)
        self._open: dict[asyncio.StreamWriter, None] = {}

    @property
    def port(self) -> int:
        """The port that it listens on; before `start`, the configured one."""
        if self._server is None:
            return self._port
        return int(self._server.sockets[0].getsockname()[1])

    async def start(self) -> None:
        """Start listening.

        Raises:
            SetupError: The port or the host is not available.
        """
        try:
            self._server = await asyncio.start_server(self._serve, self._host, self._port, limit=MAX_REQUEST_BYTES)
        except OSError as error:
            raise SetupError(self._bind_error(error)) from error

    async def stop(self) -> None:
        """Stop listening, and abort open requests."""
        if self._server is None:
            return
        self._port, server, self._server = self.port, self._server, None
        server.close()
        for writer in tuple(self._open):
            writer.transport.abort()
        await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._open) >= MAX_CONNECTIONS:
            next(iter(self._open)).transport.abort()
        self._open[writer] = None
        try:
            async with asyncio.timeout(CLIENT_TIMEOUT):
                line, *headers = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                method, _, rest = line.partition(" ")
                reply = self._reply(method, rest.partition(" ")[0].partition("?")[0], _host_header(headers))
                writer.write(_http_response(reply, body=method != "HEAD"))
                writer.close()
                await writer.wait_closed()
        except (TimeoutError, ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # the client disconnected, or its request is invalid: close without a response
        finally:
            self._open.pop(writer, None)
            writer.transport.abort()

    def _reply(self, method: str, path: str, host: str | None) -> Reply:
        if not self._allowed.allow(host):
            return _json(HTTPStatus.MISDIRECTED_REQUEST, {"error": "Host: POISE_ADMIN_ALLOWED_HOSTS adds names"})
        if method not in {"GET", "HEAD"}:
            return _json(HTTPStatus.METHOD_NOT_ALLOWED, {"error": "only GET and HEAD"})
        if path == "/healthz":
            return _json(HTTPStatus.OK, {"status": "ok"})
        if path == "/readyz":
            checks = dict(self._readiness())
            ready = all(checks.values())
            status = HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE
            return _json(status, {"ready": ready, "checks": checks})
        if path == "/metrics" and self._metrics is not None:
            return HTTPStatus.OK, PROMETHEUS, self._metrics()
        return _json(HTTPStatus.NOT_FOUND, {"error": "not found: the paths are /healthz, /readyz and /metrics"})

    def _bind_error(self, error: OSError) -> str:
        where = f"{self._host}:{self._port}"
        if error.errno == errno.EADDRINUSE:
            return f"admin endpoint: {where} is in use: free it, or set POISE_ADMIN_PORT (0 = any free port)"
        return f"admin endpoint: cannot listen on {where} ({error.strerror}): set POISE_ADMIN_HOST or POISE_ADMIN_PORT"


def _host_header(headers: Iterable[str]) -> str | None:
    """Return the header `Host`; of several, the last."""
    host = None
    for header in headers:
        name, _, value = header.partition(":")
        if name.strip().lower() == "host":
            host = value.strip()
    return host


def _json(status: HTTPStatus, content: Mapping[str, object]) -> Reply:
    return status, "application/json", json.dumps(content).encode()


def _http_response(reply: Reply, *, body: bool) -> bytes:
    status, content_type, content = reply
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {len(content)}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + (content if body else b"")
