"""The rows of a trace: which spans are shown, and the note of each."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from rich.text import Text

from poise.cli.gantt import TimeAxis, TimeSpan, draw_bar
from poise.cli.text import clean, format_ms
from poise.contracts.span import AttributeValue, SpanRecord
from poise.run_log.timeline import SpanNode
from poise.telemetry import semconv

STYLES: Final = {
    "gateway": "cyan",
    "orchestration": "magenta",
    "retrieval": "green",
    "inference": "yellow",
    "integration": "bright_red",
    "evaluation": "blue",
}
"""The color of each tier."""
MIN_SEND_SHARE: Final = 0.02
"""Sends that took a smaller share of the run are hidden by default."""
MIN_QUEUED_SHARE: Final = 0.01
"""A wait that took a smaller share of the run is drawn, without a note."""


def format_seconds(seconds: float) -> str:
    """Format seconds for a person."""
    return format_ms(seconds * 1000)


def one_line(text: str) -> str:
    """Return untrusted text on one line, without control characters."""
    return " ".join(clean(text).split())


@dataclass(frozen=True, slots=True)
class ColumnWidths:
    """The width of each column, in cells."""

    where: int
    name: int
    time: int


def visible_rows(roots: list[SpanNode], total: float, *, everything: bool) -> tuple[list[tuple[str, SpanNode]], int]:
    """Return each visible node with its tree guide, and the number of hidden short sends."""
    rows: list[tuple[str, SpanNode]] = []
    hidden = 0

    def below(node: SpanNode) -> Iterator[SpanNode]:
        nonlocal hidden
        for child in node.children:
            if not everything and _short_send(child, total):
                hidden += 1
                yield from below(child)
            else:
                yield child

    def add(node: SpanNode, lead: str, branch: str, trunk: str) -> None:
        rows.append((lead + branch, node))
        children = sorted(below(node), key=lambda child: child.start)
        for child in children:
            last = child is children[-1]
            add(child, lead + trunk, "└ " if last else "├ ", "  " if last else "│ ")

    for root in roots:
        add(root, "", "", "")
    return rows, hidden


def _short_send(node: SpanNode, total: float) -> bool:
    span = node.span
    return (
        span is not None and span.role == "producer" and span.status == "ok" and span.ms / 1000 < MIN_SEND_SHARE * total
    )


def span_row(guide: str, node: SpanNode, axis: TimeAxis, columns: ColumnWidths) -> Text:
    """Render a span as one line."""
    style = STYLES.get(node.tier, "white")
    failed = _failed(node)
    name = Text.assemble((guide, "bright_black"), (span_name(node), "red" if failed else ""))
    name.truncate(columns.name, overflow="ellipsis", pad=True)
    where = Text(span_worker(node), style)
    where.truncate(columns.where, overflow="ellipsis", pad=True)
    took = Text(span_duration(node).rjust(columns.time), "bold red" if failed else "")
    return Text(" ").join([where, name, _time_bar(node, axis, style), took])


def _failed(node: SpanNode) -> bool:
    return node.span is not None and node.span.status == "error"


def span_duration(node: SpanNode) -> str:
    """Return the span's duration, as text."""
    return format_ms(node.span.ms) if node.span else "?"


def _time_bar(node: SpanNode, axis: TimeAxis, style: str) -> Text:
    words = one_line(", ".join(_notes(node, axis.end - axis.begin)))
    failed = _failed(node)
    if node.start >= axis.end and node.span:
        note = Text(f"{format_seconds(node.start - axis.end)} after the end" + (f", {words}" if words else ""), "dim")
        note.truncate(axis.cells, overflow="ellipsis")
        return Text.assemble(" " * (axis.cells - note.cell_len), note)
    note = Text(words, "red" if failed else "dim")
    return draw_bar(axis, TimeSpan(node.sent_at, node.start, node.end), style if node.span else "bright_black", note)


def span_worker(node: SpanNode) -> str:
    """Return the worker that recorded the span."""
    if node.span is None:
        return "?"
    instance = one_line(node.span.instance)
    if not instance or instance == node.tier:
        return node.tier
    return instance if instance.startswith(node.tier) else f"{node.tier}/{instance[-8:]}"


def span_name(node: SpanNode) -> str:
    """Return the span's name without common prefixes and suffixes."""
    if node.span is None:
        return "not reported"
    return one_line(node.span.name).replace(" poise.", " ").replace(".requests", "").removesuffix(".interactive")


def _notes(node: SpanNode, total: float) -> Iterator[str]:
    """Yield the notes of a span: its error, its wait, and its attributes."""
    span = node.span
    if span is None:
        yield "still running, or its worker died"
        return
    if span.error:
        yield f"✗ {span.error}"
    if node.queued > MIN_QUEUED_SHARE * total:
        yield f"queued {format_seconds(node.queued)}"
    for attribute, format_note in ATTRIBUTE_NOTES.items():
        if attribute in span.attributes and (note := format_note(span.attributes[attribute], span)):
            yield note


def _waited(ms: AttributeValue, _span: SpanRecord) -> str:
    return f"waited {format_seconds(ms / 1000)} for the backend" if isinstance(ms, int | float) and ms >= 1 else ""


def _tokens(wrote: AttributeValue, span: SpanRecord) -> str:
    read = span.attributes.get(semconv.GEN_AI_INPUT_TOKENS, "?")
    speed = f", {wrote / span.ms * 1000:.0f}/s" if isinstance(wrote, int) and span.ms else ""
    return f"{read} → {wrote} tokens{speed}"


ATTRIBUTE_NOTES: Final[Mapping[str, Callable[[AttributeValue, SpanRecord], str]]] = MappingProxyType(
    {
        semconv.WAIT_MS: _waited,
        semconv.ATTEMPT: lambda attempt, _: "" if attempt == 1 else f"attempt {attempt}",
        semconv.GEN_AI_OUTPUT_TOKENS: _tokens,
        semconv.PASSAGES: lambda found, _: f"{found} passages",
        semconv.RUNG: lambda rung, _: str(rung),
        semconv.OUTCOME: lambda outcome, span: "" if outcome == "ok" or span.error else str(outcome),
    }
)
"""The note for each attribute, in this order."""
