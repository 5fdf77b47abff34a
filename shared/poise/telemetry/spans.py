"""The queue of finished spans that a process writes to `poise.spans`."""

import json
import math
from collections import deque
from typing import Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.trace import StatusCode
from opentelemetry.util.types import AnyValue
from pydantic_core import to_json

from poise.contracts.bounds import INT64
from poise.telemetry import metrics, semconv

CAPACITY: Final = 8_192
"""Maximum of queued spans: those of a few seconds of a worker while the broker is unavailable."""
MAX_TEXT_CHARS: Final = 200
MIN_STEP_DURATION_NS: Final = 1_000_000
"""Nanoseconds; shorter local steps are not written, because writing takes longer than they did."""


class SpanQueue(SpanProcessor):
    """Holds finished spans of runs until `drain`. If it is full, the oldest are dropped and counted.

    A span belongs to the run in its attribute `poise.run`, or else to the run of its parent. Spans without a run are
    skipped. The code that publishes drained spans must not open spans of a run, or it would never end.

    Args:
        capacity: The maximum of queued spans.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._finished: deque[ReadableSpan] = deque(maxlen=capacity)

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Copy the run of the parent to a new span, unless it has one."""
        attributes = span.attributes
        if attributes is not None and semconv.RUN in attributes:
            return
        parent = trace.get_current_span(parent_context)
        inherited = parent.attributes if isinstance(parent, ReadableSpan) else None
        if inherited is not None and (run := inherited.get(semconv.RUN)) is not None:
            span.set_attribute(semconv.RUN, run)

    def on_end(self, span: ReadableSpan) -> None:
        """Queue a finished span; `drain` encodes it later, off the message's critical path."""
        attributes = span.attributes
        if attributes is None or semconv.RUN not in attributes or _is_too_brief(span):
            return
        if len(self._finished) == self._finished.maxlen:
            metrics.count(semconv.SPANS_DROPPED)
        self._finished.append(span)

    def drain(self, limit: int = 1_000) -> list[tuple[str, bytes]]:
        """Remove and return finished spans, oldest first.

        Args:
            limit: The maximum number; a thousand take about 20 ms to encode.

        Returns:
            The run and the body (`SpanRecord`) of each span.
        """
        taken: list[tuple[str, bytes]] = []
        while self._finished and len(taken) < limit:
            span = self._finished.popleft()
            taken.append((str((span.attributes or {})[semconv.RUN]), encode_span(span)))
        return taken


def _is_too_brief(span: ReadableSpan) -> bool:
    duration = (span.end_time or 0) - (span.start_time or 0)
    return (
        duration < MIN_STEP_DURATION_NS
        and span.name.startswith(semconv.STEP_SPAN_PREFIX)
        and span.status.status_code is not StatusCode.ERROR
    )


def encode_span(span: ReadableSpan) -> bytes:
    """Return a finished span as the body of a `SpanRecord`.

    It is built without the model, which takes 9 µs instead of 19. Texts and names are truncated, and the SDK limits a
    span to 128 attributes, so the body always fits its topic.
    """
    context, start, resource = span.context, span.start_time or 0, span.resource.attributes
    body = {
        "trace_id": f"{context.trace_id:032x}",
        "span_id": f"{context.span_id:016x}",
        "name": span.name[:MAX_TEXT_CHARS],
        "role": span.kind.name.lower(),
        "service": resource.get("service.name", ""),
        "instance": resource.get("service.instance.id", ""),
        "host": resource.get("host.name", ""),
        "start": round(start / 1e9, 6),
        "ms": round(max(0, (span.end_time or start) - start) / 1e6, 3),
        "attributes": {
            name[:MAX_TEXT_CHARS]: _attribute_value(value)
            for name, value in (span.attributes or {}).items()
            if name != semconv.RUN
        },
    }
    if span.parent:
        body["parent_id"] = f"{span.parent.span_id:016x}"
    if span.status.status_code is StatusCode.ERROR:
        body |= {"status": "error", "error": (span.status.description or "failed")[:MAX_TEXT_CHARS]}
    try:
        return to_json(body)
    except ValueError:  # third-party text that UTF-8 cannot encode
        return json.dumps(body, ensure_ascii=False).encode(errors="replace")


def _attribute_value(value: AnyValue) -> bool | int | float | str:
    if isinstance(value, str):
        return value[:MAX_TEXT_CHARS]
    if isinstance(value, int):
        return value if -INT64 <= value <= INT64 else hex(value)[:MAX_TEXT_CHARS]
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return (",".join(map(str, value)) if isinstance(value, tuple) else str(value))[:MAX_TEXT_CHARS]
