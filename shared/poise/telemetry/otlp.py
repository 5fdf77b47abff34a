"""Export to an OpenTelemetry collector over HTTP; sole importer of the exporters (extra `otlp`).

The exporters' own client waits for each piece of an answer by itself, and takes in all of it, inflated: here the whole
exchange has one end, and no more of an answer than `MAX_RESPONSE_BYTES` is taken, as it came.
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
"""Seconds that one batch may take, retries included: less than a worker's grace period."""
MAX_RESPONSE_BYTES: Final = 64 * 1024
"""Bytes; a collector has next to nothing to say."""


def exporters(endpoint: str) -> tuple[OTLPSpanExporter, OTLPMetricExporter]:
    """Exporters to the collector at `endpoint`, such as `http://host:4318`."""
    base = endpoint.rstrip("/")
    return (
        OTLPSpanExporter(endpoint=f"{base}/v1/traces", timeout=EXPORT_TIMEOUT, session=BoundedSession()),
        OTLPMetricExporter(endpoint=f"{base}/v1/metrics", timeout=EXPORT_TIMEOUT, session=BoundedSession()),
    )


class BoundedSession(Session):
    """Connections to one collector: each exchange is cut off at its timeout, however much of an answer has come."""

    def __init__(self) -> None:
        super().__init__()
        for scheme in ("http://", "https://"):
            self.mount(scheme, _Adapter())

    def request(self, method: str, url: str, **more: Any) -> Response:  # type: ignore[override]
        """Send a request, and take the beginning of its answer."""
        within = more.pop("timeout", None) or EXPORT_TIMEOUT
        exchange = _this_thread.exchange = _Exchange()
        timer = threading.Timer(within, exchange.cut)
        timer.daemon = True
        timer.start()
        try:
            headers = {**(more.pop("headers", None) or {}), "Accept-Encoding": "identity"}
            response = super().request(method, url, **more, timeout=within, headers=headers, stream=True)
            said = response.raw.read(MAX_RESPONSE_BYTES + 1, decode_content=False)
            if len(said) > MAX_RESPONSE_BYTES:
                response.close()
            response._content = said[:MAX_RESPONSE_BYTES]  # noqa: SLF001 - what is read of it; else it would be read here
            return response
        finally:
            timer.cancel()


class _Exchange:
    """One request and its answer, on a connection that is known once it is sent."""

    def __init__(self) -> None:
        self.connection: HTTPConnection | None = None

    def cut(self) -> None:
        """End it, whatever is waited for."""
        under_way = None if self.connection is None else self.connection.sock
        if under_way is not None:
            with contextlib.suppress(OSError):  # it is over
                socket.socket.shutdown(under_way, socket.SHUT_RDWR)


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
