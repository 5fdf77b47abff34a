"""The trace of a run: its spans and its record."""

from collections.abc import Sequence
from dataclasses import dataclass

from poise.contracts.record import RunRecord
from poise.contracts.span import SpanRecord
from poise.run_log.timeline import span_tree
from poise.telemetry import semconv


@dataclass(frozen=True, slots=True)
class RunTrace:
    """What the logs have of a run."""

    spans: tuple[SpanRecord, ...]
    record: RunRecord | None
    """Written by orchestration; None until the run has finished."""


def is_complete(spans: Sequence[SpanRecord]) -> bool:
    """Return whether all workers have written their spans: no parent is missing, all calls are handled, one scored."""
    parents = {span.parent_id for span in spans}
    handled = all(span.span_id in parents for span in spans if span.name.startswith(semconv.call_span("")))
    scored = any(span.name == semconv.SCORE_RUN for span in spans)
    return scored and handled and all(root.span for root in span_tree(spans))
