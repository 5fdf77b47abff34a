"""Export to an OpenTelemetry collector over HTTP; sole importer of the exporters (extra `otlp`)."""

from typing import Final

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

EXPORT_TIMEOUT: Final = 5.0
"""Seconds that one batch may take, retries included: less than a worker's grace period."""


def exporters(endpoint: str) -> tuple[OTLPSpanExporter, OTLPMetricExporter]:
    """Exporters to the collector at `endpoint`, such as `http://host:4318`."""
    base = endpoint.rstrip("/")
    return (
        OTLPSpanExporter(endpoint=f"{base}/v1/traces", timeout=EXPORT_TIMEOUT),
        OTLPMetricExporter(endpoint=f"{base}/v1/metrics", timeout=EXPORT_TIMEOUT),
    )
