import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from poise.errors import SetupError
from poise.settings import MeshSettings
from poise.telemetry import count, current_span, semconv, span
from poise.telemetry.setup import Telemetry

SHARED = Path(__file__).parents[3] / "shared"


def settings(**values: Any) -> MeshSettings:
    return MeshSettings(**{"instance": "retrieval-1", "spans": False, **values})


def page_of(telemetry: Telemetry) -> str:
    assert telemetry.exposition is not None
    return telemetry.exposition().decode()


def runs_of(telemetry: Telemetry) -> list[str]:
    assert telemetry.spans is not None
    return [run for run, _ in telemetry.spans.drain()]


async def test_spans_and_metrics_are_recorded_between_start_and_stop() -> None:
    telemetry = Telemetry(settings(spans=True, admin_port=0), "retrieval")
    telemetry.start()
    with span("work", attributes={semconv.RUN: "r"}) as current:
        assert current.is_recording()
    count(semconv.DOCUMENTS_EMBEDDED, 3)

    page = page_of(telemetry)
    assert "poise_documents_embedded_total 3.0" in page
    assert 'service_name="poise-retrieval"' in page
    assert 'service_instance_id="retrieval-1"' in page
    assert "process_resident_memory_bytes" in page
    await telemetry.stop()

    with span("later", attributes={semconv.RUN: "r"}) as current:
        assert not current.is_recording()
    assert runs_of(telemetry) == ["r"]


async def test_disabled_telemetry_is_not_set_up() -> None:
    telemetry = Telemetry(settings(), "retrieval")
    telemetry.start()
    with span("work"):
        assert not current_span().is_recording()
    assert telemetry.spans is None
    assert telemetry.exposition is None
    await telemetry.stop()


def test_client_does_not_import_the_sdk() -> None:
    code = (
        "import sys; from poise.settings import MeshSettings; from poise.telemetry.setup import Telemetry;"
        "Telemetry(MeshSettings(spans=False), 'client').start();"
        "print([m for m in sys.modules if m.startswith('opentelemetry.sdk')])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(SHARED)}, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "[]"


async def test_telemetry_can_be_restarted_and_run_twice_at_once() -> None:
    for _ in range(2):
        outer, inner = (Telemetry(settings(spans=True, admin_port=0), tier) for tier in ("gateway", "retrieval"))
        outer.start()
        inner.start()
        with span("inner", attributes={semconv.RUN: "r"}):
            count(semconv.REPLIES_LATE)
        await inner.stop()
        with span("outer", attributes={semconv.RUN: "r"}):
            count(semconv.REPLIES_LATE)
        assert runs_of(inner) == ["r"]
        assert runs_of(outer) == ["r"]
        assert "poise_replies_late_total 1.0" in page_of(outer)
        await outer.stop()


async def test_stop_is_idempotent_and_allowed_before_start() -> None:
    telemetry = Telemetry(settings(spans=True), "retrieval")
    await telemetry.stop()
    telemetry.start()
    await telemetry.stop()
    await telemetry.stop()


@pytest.mark.parametrize("endpoint", ["collector:4318", "grpc://collector:4317", "http://"])
def test_invalid_otlp_endpoint_is_rejected(endpoint: str) -> None:
    with pytest.raises(SetupError, match="POISE_OTLP_ENDPOINT"):
        Telemetry(settings(otlp_endpoint=endpoint), "retrieval").start()


def test_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "poise.telemetry.otlp", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)

    with pytest.raises(SetupError, match=r"poise\[otlp\]"):
        Telemetry(settings(otlp_endpoint="http://127.0.0.1:4318"), "retrieval").start()
