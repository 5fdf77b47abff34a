"""The queue of finished spans, from which a process writes `poise.spans`."""

from collections import deque
from collections.abc import Mapping
from typing import Final, cast

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.trace import StatusCode
from opentelemetry.util.types import AnyValue

from poise.contracts.span import Role, SpanRecord
from poise.telemetry import metrics, table

CAPACITY: Final = 8_192
"""Spans that wait at most: what a worker finishes in seconds when the broker is away."""
LONGEST_TEXT: Final = 200


class SpanQueue(SpanProcessor):
    """Keeps finished spans of runs until `drain` takes them; the oldest give way when it is full, and are counted.

    A span belongs to the run that its attribute `poise.run` names; one without it belongs to its parent's. Spans of no
    run are passed over. Whoever publishes what `drain` gives must open no span of a run for it, or there is no end.

    Args:
        capacity: Spans kept at most.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._finished: deque[ReadableSpan] = deque(maxlen=capacity)

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Give a new span its parent's run, unless it names its own."""
        attributes = span.attributes
        if attributes is not None and table.RUN in attributes:
            return
        parent = trace.get_current_span(parent_context)
        inherited = parent.attributes if isinstance(parent, ReadableSpan) else None
        if inherited is not None and (run := inherited.get(table.RUN)) is not None:
            span.set_attribute(table.RUN, run)

    def on_end(self, span: ReadableSpan) -> None:
        """Keep a finished span; turning it into a body is left to `drain`, off the path of the message."""
        attributes = span.attributes
        if attributes is None or table.RUN not in attributes:
            return
        if len(self._finished) == self._finished.maxlen:
            metrics.count(table.SPANS_DROPPED)
        self._finished.append(span)

    def drain(self, limit: int = 1_000) -> list[tuple[str, bytes]]:
        """Take finished spans, oldest first.

        Args:
            limit: How many at most: a thousand take about 20 ms to encode.

        Returns:
            The run and the body (`SpanRecord`) of each.
        """
        taken: list[tuple[str, bytes]] = []
        while self._finished and len(taken) < limit:
            span = self._finished.popleft()
            taken.append((str((span.attributes or {})[table.RUN]), record(span).encode()))
        return taken


def record(span: ReadableSpan) -> SpanRecord:
    """A finished span as it stands on the wire."""
    context, start, resource = span.context, span.start_time or 0, span.resource.attributes
    failed = span.status.status_code is StatusCode.ERROR
    return SpanRecord(
        trace_id=f"{context.trace_id:032x}",
        span_id=f"{context.span_id:016x}",
        parent_id=f"{span.parent.span_id:016x}" if span.parent else None,
        name=span.name,
        role=cast("Role", span.kind.name.lower()),
        service=str(resource.get("service.name", "")),
        instance=str(resource.get("service.instance.id", "")),
        host=str(resource.get("host.name", "")),
        start=round(start / 1e9, 6),
        ms=round(max(0, (span.end_time or start) - start) / 1e6, 3),
        status="error" if failed else "ok",
        error=(span.status.description or "failed")[:LONGEST_TEXT] if failed else None,
        attributes=_short(span.attributes or {}),
    )


def _short(attributes: Mapping[str, AnyValue]) -> dict[str, bool | int | float | str]:
    return {
        name: value if isinstance(value, bool | int | float) else _text(value)
        for name, value in attributes.items()
        if name != table.RUN
    }


def _text(value: AnyValue) -> str:
    text = value if isinstance(value, str) else ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return text[:LONGEST_TEXT]
