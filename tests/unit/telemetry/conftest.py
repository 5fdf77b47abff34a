from collections.abc import Callable, Iterator, Sequence

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from poise.telemetry import sdk, tracing


@pytest.fixture
def finished() -> Iterator[Callable[[], Sequence[ReadableSpan]]]:
    """Yield a function that returns the spans finished during the test."""
    exporter = InMemorySpanExporter()
    provider: TracerProvider = sdk.tracer_provider(
        sdk.resource("testing", "testing-1"), [SimpleSpanProcessor(exporter)]
    )
    tracer = provider.get_tracer(tracing.SCOPE)
    tracing.activate(tracer)
    yield exporter.get_finished_spans
    tracing.deactivate(tracer)
    provider.shutdown()
