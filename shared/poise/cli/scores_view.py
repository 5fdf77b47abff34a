"""Scores on a screen, a variant a row. Pure."""

from collections.abc import Mapping, Sequence
from typing import Final

from rich.console import RenderableType

from poise.cli.table import Row, table
from poise.cli.text import clean, format_ms
from poise.scoring.summary import Estimate, VariantSummary

HEADER: Final = (
    "variant",
    "runs",
    "fell back",
    "sent grounded",
    "written grounded",
    "written relevant",
    "failed",
    "loops",
    "p50",
    "p95",
)
LEGEND: Final = (
    "sent: the text of the reply · written: the text of the variant, sent or not · fell back: sent from a lower rung"
)
LATENCY: Final = "latency_ms."
TOTAL_LATENCY: Final = "latency_ms.total"
NONE: Final = "-"


def scores_table(summaries: Sequence[VariantSummary]) -> RenderableType:
    """Return the table of variants.

    `fell back` is the share that was not sent from the first rung. `sent grounded` is the mean of what was sent,
    `written grounded` and `written relevant` are those of what the variant wrote, sent or not, each with its 95 %
    confidence interval; the note has the rungs and, at the median, the steps.
    """
    return table(HEADER, [Row(_cells(summary), _note(summary), "cyan") for summary in summaries])


def _cells(summary: VariantSummary) -> tuple[str, ...]:
    values, total = summary.values, summary.values.get(TOTAL_LATENCY)
    return (
        clean(summary.variant),
        str(summary.runs),
        format_percent(1 - summary.rungs.get("primary", 0) / summary.runs) if summary.runs else NONE,
        format_interval(values.get("groundedness")),
        format_interval(values.get("raw_groundedness")),
        format_interval(values.get("raw_relevance")),
        format_mean_share(values.get("error")),
        format_mean_share(values.get("degenerate")),
        format_ms(total.p50) if total else NONE,
        format_ms(total.p95) if total else NONE,
    )


def _note(summary: VariantSummary) -> str:
    rungs = ", ".join(f"{clean(rung)} {count}" for rung, count in summary.rungs.items())
    steps = [
        f"{clean(name.removeprefix(LATENCY))} {format_ms(found.p50)}"
        for name, found in summary.values.items()
        if name.startswith(LATENCY) and name != TOTAL_LATENCY
    ]
    return " · ".join(filter(None, [rungs, *steps, *feedback_notes(summary.values)]))


def feedback_notes(values: Mapping[str, Estimate]) -> list[str]:
    """Return notes on the feedback, if there is any: `4 of 5 thumbs up`, `rated 4.2 of 5 by 3`, `2 corrected`."""
    notes = []
    if thumb := values.get("feedback_thumb"):
        notes.append(f"{thumb.mean * thumb.count:.0f} of {thumb.count} thumbs up")
    if rating := values.get("feedback_rating"):
        notes.append(f"rated {1 + 4 * rating.mean:.1f} of 5 by {rating.count}")
    if corrected := values.get("feedback_corrected"):
        notes.append(f"{corrected.count} corrected")
    return notes


def format_interval(estimate: Estimate | None) -> str:
    """Format a mean with its interval as `0.81 ±0.09`; a single run has no interval."""
    if estimate is None:
        return NONE
    half = estimate.high - estimate.mean
    return f"{estimate.mean:.2f}" + ("" if estimate.count == 1 else f" ±{half:.2f}")


def format_mean_share(estimate: Estimate | None) -> str:
    """Format a share of runs as `12 %`."""
    return NONE if estimate is None else format_percent(estimate.mean)


def format_percent(share: float) -> str:
    """Format a share as `12 %`."""
    return f"{share:.0%}".replace("%", " %")
