"""Renders the act on a screen of 80 columns: the current part, each variant's share and quality, events. Pure."""

import math
from collections.abc import Sequence
from textwrap import wrap
from typing import Final

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from poise.contracts.policy import Sample
from poise_labs.balance.timeline import (
    MIN_FOR_INTERVAL,
    WINDOW,
    EventKind,
    Timeline,
    TimelineEvent,
    format_clock,
    format_percent,
)

SCALE: Final = 26
"""Columns of the quality scale."""
SHARE: Final = 10
"""Columns of the bar of a share."""
SPARKLINE: Final = 60
"""Columns of the sparklines."""
OTHER_LINES: Final = 13
"""Lines of the screen without the story and the events."""
BLOCKS: Final = "▁▂▃▄▅▆▇█"
STYLES: Final = ("green", "magenta")
"""The styles of the variants."""
EVENT_STYLES: Final[dict[EventKind, tuple[str, str, str]]] = {
    "set": ("·", "dim", ""),
    "fault": ("✗", "bold red", ""),
    "noticed": ("!", "bold yellow", "noticed: "),
    "fault_fixed": ("+", "bold cyan", ""),
    "restored": ("✓", "bold green", "restored: "),
    "note": ("·", "dim", ""),
}
"""By kind: its sign, its style, and its label."""
SIGNED: Final[tuple[EventKind, ...]] = ("fault", "noticed", "fault_fixed", "restored")


def screen(timeline: Timeline, *, height: int = 40, width: int = 80) -> RenderableType:
    """Return the whole screen, with as many of the last events as fit."""
    story = sum(1 for _ in wrap(timeline.story, width - 4))
    left = height - story - OTHER_LINES
    return Group(
        _headline(timeline),
        Padding(_variants(timeline), (0, 1)),
        Padding(_sparklines(timeline), (0, 1)),
        Padding(_evidence(timeline), (0, 1)),
        Rule(style="dim"),
        Padding(_events(timeline, left, width), (0, 1)),
    )


def _headline(timeline: Timeline) -> RenderableType:
    title = Text(f" {timeline.headline} ", style="bold")
    counted = Text(f" {format_clock(timeline.now - timeline.began)} · {len(timeline.answers)} answers ", style="dim")
    faulty = timeline.first("fault") is not None and timeline.first("fault_fixed") is None
    return Panel(
        Text(timeline.story),
        title=title,
        title_align="left",
        subtitle=counted,
        subtitle_align="right",
        border_style="red" if faulty else "cyan",
    )


# -- the variants -----------------------------------------------------------------------------------------------------


def _variants(timeline: Timeline) -> RenderableType:
    table = Table(box=None, padding=(0, 1, 0, 0), show_edge=False, header_style="dim")
    table.add_column("variant", no_wrap=True)
    table.add_column("gets", no_wrap=True)
    table.add_column(f"0{'quality, last answers':^{SCALE - 2}}1", no_wrap=True, width=SCALE)
    table.add_column("mean (95 % sure)", no_wrap=True)
    table.add_column("answers", justify="right", no_wrap=True, min_width=7)
    for number, variant in enumerate(timeline.variants):
        style = STYLES[number % len(STYLES)]
        found = timeline.quality(variant)
        share = timeline.share(variant)
        table.add_row(
            Text(variant, style=f"bold {style}"),
            Text.assemble((bar(share, SHARE), style), f" {format_percent(share):>5}"),
            Text(whisker(found), style=style),
            format_sample(found),
            Text(str(len(timeline.answers_of(variant))), style="dim"),
        )
    return table


def bar(share: float, columns: int) -> str:
    """Draw a share as a bar, in eighths of a column."""
    eighths = round(max(0.0, min(1.0, share)) * columns * 8)
    whole, part = divmod(eighths, 8)
    return f"{'█' * whole}{' ▏▎▍▌▋▊▉'[part] if part else ''}".ljust(columns)


def whisker(found: Sample | None, columns: int = SCALE) -> str:
    """Draw a mean and its interval on a scale from 0 to 1: `  ├──●──┤  `."""
    if found is None:
        return "·" * columns
    place = [min(columns - 1, max(0, round(value * (columns - 1)))) for value in (found.low, found.mean, found.high)]
    low, mean, high = place
    line = ["·"] * columns
    line[low : high + 1] = "─" * (high + 1 - low)
    line[low], line[high], line[mean] = "├", "┤", "●"
    return "".join(line)


def format_sample(found: Sample | None) -> str:
    """Format a mean and its interval."""
    return f"{found.mean:.2f} ({found.low:.2f}–{found.high:.2f})" if found else "-"


# -- over time --------------------------------------------------------------------------------------------------------


def _sparklines(timeline: Timeline) -> RenderableType:
    ends = span_ends(timeline, SPARKLINE)
    lines: list[RenderableType] = [Text()]
    width = max(len(variant) for variant in timeline.variants)
    for number, variant in enumerate(timeline.variants):
        values = [_mean_at(timeline, variant, at) for at in ends]
        style = STYLES[number % len(STYLES)]
        lines.append(Text.assemble((f"{variant.ljust(width)} quality ", style), (sparkline(values), style)))
    suspect = timeline.suspect
    values = [timeline.share(suspect, until=at) or None for at in ends]
    style = STYLES[(len(timeline.variants) - 1) % len(STYLES)]
    lines.append(Text.assemble((f"{suspect.ljust(width)} gets    ", style), (sparkline(values), style)))
    signs = [" "] * len(ends)
    for kind in SIGNED:
        mark = timeline.first(kind)
        if mark is not None and ends:
            signs[next((place for place, at in enumerate(ends) if at >= mark.at), len(ends) - 1)] = EVENT_STYLES[kind][
                0
            ]
    lines.append(Text(f"{' ' * (width + 9)}{''.join(signs)}", style="bold"))
    return Group(*lines)


def span_ends(timeline: Timeline, columns: int) -> list[float]:
    """Return the ends of `columns` equal time spans of the act so far; of fewer if a span would be below a second."""
    lasted = timeline.now - timeline.began
    count = max(1, min(columns, math.ceil(lasted)))
    return [timeline.began + lasted * (place + 1) / count for place in range(count)]


def _mean_at(timeline: Timeline, variant: str, at: float) -> float | None:
    found = timeline.quality(variant, until=at, window=WINDOW // 2)
    return found.mean if found is not None and found.count >= MIN_FOR_INTERVAL else None


def sparkline(values: Sequence[float | None]) -> str:
    """Draw values between 0 and 1 as a row of blocks; None is a space."""
    return "".join(" " if value is None else BLOCKS[min(7, max(0, int(value * 8)))] for value in values)


# -- the evidence -----------------------------------------------------------------------------------------------------


def _evidence(timeline: Timeline) -> RenderableType:
    found = timeline.evidence
    if found is None:
        return Text("evidence: none yet", style="dim")
    reached = 0.0 if found.value <= 1 else min(1.0, math.log(found.value) / math.log(found.threshold))
    about = f"that {timeline.suspect} is {'healthy again' if found.recovery else 'worse'}"
    bad = "red" if reached > 0.75 else "yellow" if reached > 0.4 else "dim"  # noqa: PLR2004 - chosen by eye
    style = "green" if found.recovery else bad
    return Text.assemble(
        (f"evidence {about}  ", "dim"),
        (bar(reached, 12), style),
        ("▏", "dim"),
        (f" {format_evidence(found.value)}", style),
        (f", acts at {format_evidence(found.threshold)}, log scale", "dim"),
    )


def format_evidence(value: float) -> str:
    """Format a value of evidence as `1.4` or `10 500`."""
    return f"{value:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}") if value >= 10 else f"{value:.1f}"  # noqa: PLR2004


# -- events -----------------------------------------------------------------------------------------------------


def _events(timeline: Timeline, lines: int, width: int) -> RenderableType:
    table = Table(box=None, padding=(0, 1, 0, 0), show_header=False, show_edge=False)
    table.add_column(justify="right", no_wrap=True, style="dim")
    table.add_column(no_wrap=True)
    table.add_column()
    shown: list[TimelineEvent] = []
    for mark in reversed(timeline.events):
        lines -= len(wrap(f"{EVENT_STYLES[mark.kind][2]}{mark.text}", width - 11))
        if lines < 0:
            break
        shown.insert(0, mark)
    for mark in shown:
        sign, style, called = EVENT_STYLES[mark.kind]
        text = Text.assemble((called, style), mark.text)
        table.add_row(format_clock(mark.at - timeline.began), Text(sign, style=style), text)
    return table


def event_line(timeline: Timeline, mark: TimelineEvent) -> str:
    """Return an event as one plain line."""
    sign, _, called = EVENT_STYLES[mark.kind]
    return f"{format_clock(mark.at - timeline.began):>5} {sign} {called}{mark.text}"


def status_line(timeline: Timeline) -> str:
    """Return the current status as one plain line."""
    parts = [
        f"{variant} {format_percent(timeline.share(variant))} of asks,"
        f" quality {format_sample(timeline.quality(variant))}"
        for variant in timeline.variants
    ]
    return f"{format_clock(timeline.now - timeline.began):>5}   {len(timeline.answers)} answers · {' · '.join(parts)}"
