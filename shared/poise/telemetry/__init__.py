"""Telemetry: spans and metrics by OpenTelemetry's conventions; `semconv` has all names.

Importing this loads only OpenTelemetry's API; `telemetry.setup.Telemetry` loads the SDK when a process starts.
"""

from opentelemetry.trace import Span, SpanKind

from poise.telemetry import semconv
from poise.telemetry.metrics import adjust, count, measure, observe
from poise.telemetry.tracing import current_span, extract, inject, span

__all__ = [
    "Span",
    "SpanKind",
    "adjust",
    "count",
    "current_span",
    "extract",
    "inject",
    "measure",
    "observe",
    "semconv",
    "span",
]
