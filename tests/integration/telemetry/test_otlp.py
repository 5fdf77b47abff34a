"""Export to a collector that speaks OTLP over real HTTP."""

import asyncio
import gzip
import itertools
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from poise.settings import MeshSettings
from poise.telemetry import count, otlp, semconv, setup, span


class Collector(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        self.status = 200
        self.received: dict[str, list[bytes]] = {}
        super().__init__(("127.0.0.1", 0), OtlpRequestHandler)


class OtlpRequestHandler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.setdefault(self.path, []).append(body)
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def telemetry(server: ThreadingHTTPServer) -> setup.Telemetry:
    endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    return setup.Telemetry(MeshSettings(instance="inference-1", otlp_endpoint=endpoint, spans=False), "inference")


async def test_spans_and_metrics_are_exported_before_the_process_stops(collector: Collector) -> None:
    exporting = telemetry(collector)
    exporting.start()
    with span("chat small", attributes={semconv.RUN: "r"}):
        count(semconv.REPLIES_LATE, 2)
    await exporting.stop()

    (sent,) = ExportTraceServiceRequest.FromString(collector.received["/v1/traces"][0]).resource_spans
    resource = {item.key: item.value.string_value for item in sent.resource.attributes}
    assert resource["service.name"] == "poise-inference"
    assert resource["service.namespace"] == "poise"
    assert resource["service.instance.id"] == "inference-1"
    assert [exported.name for exported in sent.scope_spans[0].spans] == ["chat small"]

    (sent,) = ExportMetricsServiceRequest.FromString(collector.received["/v1/metrics"][-1]).resource_metrics
    metrics = {metric.name: metric for metric in sent.scope_metrics[0].metrics}
    assert metrics["poise.replies.late"].sum.data_points[0].as_int == 2
    assert metrics["poise.replies.late"].sum.is_monotonic


async def test_a_collector_that_rejects_does_not_delay_stopping(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setup, "GRACE", 0.05)
    collector.status = 503
    exporting = telemetry(collector)
    exporting.start()
    with span("chat small"):
        count(semconv.REPLIES_LATE)
    await exporting.stop()

    assert collector.received["/v1/traces"]


async def test_an_unreachable_collector_does_not_delay_stopping(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setup, "GRACE", 0.05)
    exporting = telemetry(collector)
    collector.server_close()
    exporting.start()
    with span("chat small"):
        pass
    await exporting.stop()


BOMB = gzip.compress(bytes(200 * 1024 * 1024))


def slow_head() -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\nx: "
    while True:
        time.sleep(0.02)
        yield b"x"


def slow_body() -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n"
    while True:
        time.sleep(0.02)
        yield b"x"


def endless_body() -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\n\r\n"
    yield from itertools.repeat(bytes(65_536))


def inflating_body() -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(BOMB) + BOMB


@pytest.mark.parametrize("answer", [slow_head, slow_body, endless_body, inflating_body])
async def test_the_response_of_a_collector_is_bounded_in_size_and_time(
    monkeypatch: pytest.MonkeyPatch, answer: Callable[[], Iterator[bytes]]
) -> None:
    monkeypatch.setattr(setup, "GRACE", 0.05)
    monkeypatch.setattr(otlp, "EXPORT_TIMEOUT", 0.5)
    sent, ended = [0], threading.Event()

    class ScriptedHandler(OtlpRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            try:
                for piece in answer():
                    if ended.is_set():
                        return
                    self.wfile.write(piece)
                    sent[0] += len(piece)
            except OSError:
                pass  # the exporter closed the connection

    class Server(ThreadingHTTPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), ScriptedHandler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            exporting = telemetry(server)
            exporting.start()
            with span("chat small"):
                pass
            tracemalloc.start()
            async with asyncio.timeout(30):
                await exporting.stop()
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
            ended.set()
            server.shutdown()
            thread.join()
    assert peak < 8 * 1024 * 1024
    assert sent[0] < 64 * 1024 * 1024
