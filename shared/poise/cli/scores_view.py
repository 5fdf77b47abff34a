"""Scores on a screen, a variant a row. Pure."""

from collections.abc import Sequence
from typing import Final

from rich.console import RenderableType

from poise.cli.listing import Row, listing
from poise.cli.text import clean, milliseconds
from poise.scoring.summary import Estimate, VariantSummary

HEADER: Final = ("variant", "runs", "fell back", "grounded", "own words", "relevant", "failed", "loops", "p50", "p95")
LEGEND: Final = (
    "grounded: what was sent · own words, relevant: what the variant wrote · fell back: sent from a lower rung"
)
LATENCY: Final = "latency_ms."
TOTAL: Final = "latency_ms.total"
NONE: Final = "-"


def table(summaries: Sequence[VariantSummary]) -> RenderableType:
    """The table of variants.

    `fell back` is the share that was not sent from the first rung. `grounded` is the mean of what was sent, `own words`
    and `relevant` those of what the variant itself wrote, each with its 95 % confidence interval; the note has the
    rungs and, at the median, the steps.
    """
    return listing(HEADER, [Row(_cells(summary), _note(summary), "cyan") for summary in summaries])


def _cells(summary: VariantSummary) -> tuple[str, ...]:
    values, total = summary.values, summary.values.get(TOTAL)
    return (
        clean(summary.variant),
        str(summary.runs),
        f"{1 - summary.rungs.get('primary', 0) / summary.runs:.0%}".replace("%", " %"),
        interval(values.get("groundedness")),
        interval(values.get("raw_groundedness")),
        interval(values.get("raw_relevance")),
        share(values.get("error")),
        share(values.get("degenerate")),
        milliseconds(total.p50) if total else NONE,
        milliseconds(total.p95) if total else NONE,
    )


def _note(summary: VariantSummary) -> str:
    rungs = ", ".join(f"{clean(rung)} {count}" for rung, count in summary.rungs.items())
    steps = [
        f"{clean(name.removeprefix(LATENCY))} {milliseconds(found.p50)}"
        for name, found in summary.values.items()
        if name.startswith(LATENCY) and name != TOTAL
    ]
    return " · ".join([rungs, *steps])


def interval(estimate: Estimate | None) -> str:
    """A mean with its interval: `0.81 ±0.09`; of a single run there is no interval."""
    if estimate is None:
        return NONE
    half = estimate.high - estimate.mean
    return f"{estimate.mean:.2f}" + ("" if estimate.count == 1 else f" ±{half:.2f}")


def share(estimate: Estimate | None) -> str:
    """A share of runs: `12 %`."""
    return NONE if estimate is None else f"{estimate.mean:.0%}".replace("%", " %")
