"""Export to an OpenTelemetry collector over HTTP; the only importer of the exporters (extra `otlp`).

The exporters' own client applies its timeout to each chunk of a response, and reads and decompresses all of it. Here
the whole exchange has one timeout, and at most `MAX_RESPONSE_BYTES` of a response are read, not decompressed.
"""

import contextlib
import socket
import threading
from typing import Any, Final

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from requests import Response, Session
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

EXPORT_TIMEOUT: Final = 5.0
"""Seconds for one batch, including retries: less than a worker's grace period."""
MAX_RESPONSE_BYTES: Final = 64 * 1024
"""A collector's responses are nearly empty."""


def exporters(endpoint: str) -> tuple[OTLPSpanExporter, OTLPMetricExporter]:
    """Return exporters to the collector at `endpoint`, such as `http://host:4318`."""
    base = endpoint.rstrip("/")
    return (
        OTLPSpanExporter(endpoint=f"{base}/v1/traces", timeout=EXPORT_TIMEOUT, session=BoundedSession()),
        OTLPMetricExporter(endpoint=f"{base}/v1/metrics", timeout=EXPORT_TIMEOUT, session=BoundedSession()),
    )


class BoundedSession(Session):
    """A session that aborts each exchange at its timeout, even while a response is being received."""

    def __init__(self) -> None:
        super().__init__()
        for scheme in ("http://", "https://"):
            self.mount(scheme, _Adapter())

    def request(self, method: str, url: str, **more: Any) -> Response:  # type: ignore[override]
        """Send a request, and read the beginning of its response."""
        within = more.pop("timeout", None) or EXPORT_TIMEOUT
        exchange = _this_thread.exchange = _Exchange()
        timer = threading.Timer(within, exchange.abort)
        timer.daemon = True
        timer.start()
        try:
            headers = {**(more.pop("headers", None) or {}), "Accept-Encoding": "identity"}
            response = super().request(method, url, **more, timeout=within, headers=headers, stream=True)
            body = response.raw.read(MAX_RESPONSE_BYTES + 1, decode_content=False)
            if len(body) > MAX_RESPONSE_BYTES:
                response.close()
            response._content = body[:MAX_RESPONSE_BYTES]  # noqa: SLF001 - otherwise requests reads all of it
            return response
        finally:
            timer.cancel()


class _Exchange:
    """One request and its response; the connection is known once the request is sent."""

    def __init__(self) -> None:
        self.connection: HTTPConnection | None = None

    def abort(self) -> None:
        """Shut the socket down, from another thread."""
        open_socket = None if self.connection is None else self.connection.sock
        if open_socket is not None:
            with contextlib.suppress(OSError):  # already closed
                socket.socket.shutdown(open_socket, socket.SHUT_RDWR)


class _ThisThread(threading.local):
    exchange: _Exchange | None = None


_this_thread: Final = _ThisThread()


class _TrackedConnection(HTTPConnection):
    def request(self, *args: Any, **more: Any) -> None:
        if _this_thread.exchange is not None:
            _this_thread.exchange.connection = self
        super().request(*args, **more)


class _TrackedHttpsConnection(_TrackedConnection, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _TrackedConnection


class _HttpsPool(HTTPSConnectionPool):
    ConnectionCls = _TrackedHttpsConnection


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **more: Any) -> None:
        super().init_poolmanager(*args, **more)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _HttpsPool}
