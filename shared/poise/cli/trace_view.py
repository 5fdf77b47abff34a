"""Renders a run on one screen: the time by tier, then every span on one time axis."""

from collections.abc import Iterable, Iterator
from typing import Final

from rich.console import Group, RenderableType
from rich.text import Text

from poise.cli.gantt import TimeAxis
from poise.cli.text import plural
from poise.cli.trace_rows import (
    STYLES,
    ColumnWidths,
    format_seconds,
    one_line,
    span_duration,
    span_name,
    span_row,
    span_worker,
    visible_rows,
)
from poise.contracts.record import RunRecord
from poise.contracts.span import SpanRecord
from poise.run_log.timeline import SpanNode, TimeShares, clock_skews, span_tree, time_range, time_shares

NOUNS: Final = {
    "gateway": "The gateway",
    "orchestration": "The workflow itself",
    "retrieval": "Retrieval",
    "inference": "The model",
    "integration": "The integration",
}
FILLS: Final = "█▓▒"
"""By rank, so that the bar is readable without colors."""
QUEUES: Final = ("queues", "░", "white")
TRANSIT: Final = ("in transit", "·", "bright_black")
HALF: Final = 0.5
MAX_WORKER_WIDTH: Final = 22
MIN_BAR_WIDTH: Final = 16
NAME_SHARE: Final = 0.5
"""The maximum share of the columns of names and bars that names take."""


def render_trace(
    spans: Iterable[SpanRecord], width: int, *, record: RunRecord | None = None, everything: bool = False
) -> RenderableType:
    """Draw a run.

    Args:
        spans: Its spans, in any order; at least one.
        width: Columns of the terminal.
        record: The run record, for the question and the rung.
        everything: Also draw short sends.
    """
    roots = span_tree(spans)
    split = time_shares(roots)
    begin, end = time_range(roots)
    rows, hidden = visible_rows(roots, split.total, everything=everything)
    where_width = min(MAX_WORKER_WIDTH, max(len(span_worker(node)) for _, node in rows))
    time_width = max(len(span_duration(node)) for _, node in rows)
    free = width - where_width - time_width - 3
    name_width = min(int(free * NAME_SHARE), max(len(guide + span_name(node)) for guide, node in rows))
    axis = TimeAxis(begin, end, max(MIN_BAR_WIDTH, free - name_width))
    return Group(
        *_head(roots, split, record, width),
        Text(),
        *_shares(split, width),
        Text(),
        _scale(axis, where_width + name_width + 2),
        *(span_row(guide, node, axis, ColumnWidths(where_width, name_width, time_width)) for guide, node in rows),
        *_foot(roots, hidden),
    )


def _head(roots: list[SpanNode], split: TimeShares, record: RunRecord | None, width: int) -> Iterator[Text]:
    outcome, style = _outcome(roots, record)
    yield Text.assemble((format_seconds(split.total), "bold"), "  ", (outcome, style), "  ", (_verdict(split), ""))
    if record:
        question = Text(f"“{one_line(record.question)}”", "italic")
        question.truncate(width, overflow="ellipsis")
        yield question


def _outcome(roots: list[SpanNode], record: RunRecord | None) -> tuple[str, str]:
    if record and record.fault:
        return f"fault: {record.fault.title.lower()}", "bold red"
    if record and record.answer:
        answer = record.answer
        by = f"{answer.rung} answer" + (f" by {answer.variant}" if answer.variant else "")
        return (by, "bold green") if answer.rung == "primary" else (f"{by} ({answer.reason})", "bold yellow")
    if roots[0].span is None:
        return "not finished, or spans are missing", "bold yellow"
    if roots[0].span.error:
        return one_line(f"failed: {roots[0].span.error}"), "bold red"
    return "ok", "bold green"


def _verdict(split: TimeShares) -> str:
    """Return a sentence about what took the most time."""
    if split.total <= 0:
        return ""
    most = max(
        [(seconds, NOUNS.get(tier, tier.capitalize())) for tier, seconds in split.tiers.items()]
        + [(seconds, f"Waiting for a free {tier} worker") for tier, seconds in split.waiting.items()]
        + [(split.transit, "Message transport")]
    )
    how = "took" if most[0] / split.total > HALF else "took the most,"
    return f"{most[1]} {how} {format_seconds(most[0])} ({most[0] / split.total:.0%})."


def _shares(split: TimeShares, width: int) -> Iterator[Text]:
    parts = [
        (tier, FILLS[min(rank, len(FILLS) - 1)], STYLES.get(tier, "white"), seconds)
        for rank, (tier, seconds) in enumerate(split.tiers.items())
    ]
    parts.append((*QUEUES, sum(split.waiting.values())))
    parts.append((*TRANSIT, split.transit))
    axis = TimeAxis(0.0, split.total, width)
    whole, legend, done = Text(), Text(), 0.0
    for name, fill, style, seconds in parts:
        left, done = round(axis.eighths(done) / 8), done + seconds
        whole.append(fill * (round(axis.eighths(done) / 8) - left), style)
        if split.total > 0 and seconds / split.total >= 0.005:  # noqa: PLR2004 - less rounds to 0 %
            legend.append(f"{fill} ", style).append(f"{name} {seconds / split.total:.0%}  ")
    yield whole
    legend.truncate(width, overflow="ellipsis")
    yield legend


def _scale(axis: TimeAxis, indent: int) -> Text:
    total = format_seconds(axis.end - axis.begin)
    return Text(" " * indent + "0" + "─" * (axis.cells - len(total) - 3) + " " + total, "bright_black")


def _foot(roots: list[SpanNode], hidden: int) -> Iterator[Text]:
    nodes = [node for root in roots for node in root.walk()]
    hosts = sorted({node.span.host for node in nodes if node.span})
    if hidden:
        yield Text(f"Hidden: {plural(hidden, 'short send')} (--all shows them).", "dim")
    if any(node.span is None for node in nodes):
        yield Text("Spans marked ? are missing: they still run, or their worker died before reporting them.", "yellow")
    if len(hosts) > 1:
        yield Text(f"Each span's times are from its host's clock: {', '.join(hosts)}.", "dim")
    for skew in clock_skews(roots):
        yield Text(
            f"The clock of {skew.host} is behind that of {skew.other} by at least {format_seconds(skew.seconds)}.",
            "yellow",
        )
