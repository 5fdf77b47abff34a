"""A run on one screen: where its time went, then every span on one time axis."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Final

from rich.console import Group, RenderableType
from rich.text import Text

from poise.cli.gantt import Axis, Stretch, bar
from poise.contracts.record import RunRecord
from poise.contracts.span import SpanRecord
from poise.telemetry import table
from poise.telemetry.timeline import Node, Shares, shares, skews, tree, window

Attribute = bool | int | float | str

STYLES: Final = {
    "gateway": "cyan",
    "orchestration": "magenta",
    "retrieval": "green",
    "inference": "yellow",
    "integration": "bright_red",
    "evaluation": "blue",
}
NOUNS: Final = {
    "gateway": "The gateway",
    "orchestration": "The workflow itself",
    "retrieval": "Retrieval",
    "inference": "The model",
    "integration": "The integration",
}
FILLS: Final = "█▓▒"
"""By rank, so that the bar can be read without colours."""
QUEUES: Final = ("queues", "░", "white")
TRANSIT: Final = ("in transit", "·", "bright_black")
HALF: Final = 0.5
LEAST_SEND: Final = 0.02
"""A send that took less of the run is left out, unless everything is asked for."""
LEAST_WAIT: Final = 0.01
"""A wait that took less of the run is drawn, but not written out."""
WHERE_WIDTH: Final = 22
TIME_WIDTH: Final = 8
LEAST_BAR: Final = 16
NAME_SHARE: Final = 0.5
"""Of the columns that names and bars share, names take this at most."""


def render(
    spans: Iterable[SpanRecord], width: int, *, record: RunRecord | None = None, everything: bool = False
) -> RenderableType:
    """Draw a run.

    Args:
        spans: What was reported of it, in any order; at least one.
        width: Columns there are.
        record: What orchestration wrote of the finished run, for the question and the rung.
        everything: Draw the short sends too.
    """
    roots = tree(spans)
    split = shares(roots)
    begin, end = window(roots)
    rows, left_out = _rows(roots, split.total, everything=everything)
    where_width = min(WHERE_WIDTH, max(len(_where(node)) for _, node in rows))
    free = width - where_width - TIME_WIDTH - 3
    name_width = min(int(free * NAME_SHARE), max(len(guide + _name(node)) for guide, node in rows))
    axis = Axis(begin, end, max(LEAST_BAR, free - name_width))
    return Group(
        *_head(roots, split, record, width),
        Text(),
        *_shares(split, width),
        Text(),
        _scale(axis, where_width + name_width + 2),
        *(_row(guide, node, axis, where_width, name_width) for guide, node in rows),
        *_foot(roots, left_out),
    )


def duration(seconds: float) -> str:
    """Seconds as a person reads them."""
    if seconds >= 1:
        return f"{seconds:.2f} s" if seconds < 100 else f"{seconds:.0f} s"  # noqa: PLR2004 - three digits
    ms = seconds * 1000
    return f"{ms:.0f} ms" if ms >= 10 else f"{ms:.1f} ms"  # noqa: PLR2004 - two digits


# -- head --------------------------------------------------------------------------------------------------------------


def _head(roots: list[Node], split: Shares, record: RunRecord | None, width: int) -> Iterator[Text]:
    outcome, style = _outcome(roots, record)
    yield Text.assemble((duration(split.total), "bold"), "  ", (outcome, style), "  ", (_verdict(split), ""))
    if record:
        question = Text(f"“{' '.join(record.question.split())}”", "italic")
        question.truncate(width, overflow="ellipsis")
        yield question


def _outcome(roots: list[Node], record: RunRecord | None) -> tuple[str, str]:
    if record and record.fault:
        return f"fault: {record.fault.title.lower()}", "bold red"
    if record and record.answer:
        answer = record.answer
        by = f"{answer.rung} answer" + (f" by {answer.variant}" if answer.variant else "")
        return (by, "bold green") if answer.rung == "primary" else (f"{by} ({answer.reason})", "bold yellow")
    if roots[0].span is None:
        return "not finished, or not all reported", "bold yellow"
    return (f"failed: {roots[0].span.error}", "bold red") if roots[0].span.status == "error" else ("ok", "bold green")


def _verdict(split: Shares) -> str:
    """The one sentence that says what was slow."""
    if split.total <= 0:
        return ""
    most = max(
        [(seconds, NOUNS.get(tier, tier.capitalize())) for tier, seconds in split.tiers.items()]
        + [(seconds, f"Waiting for a free {tier} worker") for tier, seconds in split.waiting.items()]
        + [(split.transit, "Carrying messages")]
    )
    how = "took" if most[0] / split.total > HALF else "took the most,"
    return f"{most[1]} {how} {duration(most[0])} ({most[0] / split.total:.0%})."


def _shares(split: Shares, width: int) -> Iterator[Text]:
    parts = [
        (tier, FILLS[min(rank, len(FILLS) - 1)], STYLES.get(tier, "white"), seconds)
        for rank, (tier, seconds) in enumerate(split.tiers.items())
    ]
    parts.append((*QUEUES, sum(split.waiting.values())))
    parts.append((*TRANSIT, split.transit))
    axis = Axis(0.0, split.total, width)
    whole, legend, done = Text(), Text(), 0.0
    for name, fill, style, seconds in parts:
        left, done = round(axis.eighths(done) / 8), done + seconds
        whole.append(fill * (round(axis.eighths(done) / 8) - left), style)
        if split.total > 0 and seconds / split.total >= 0.005:  # noqa: PLR2004 - less is 0 %
            legend.append(f"{fill} ", style).append(f"{name} {seconds / split.total:.0%}  ")
    yield whole
    legend.truncate(width, overflow="ellipsis")
    yield legend


# -- rows --------------------------------------------------------------------------------------------------------------


def _rows(roots: list[Node], total: float, *, everything: bool) -> tuple[list[tuple[str, Node]], int]:
    """Each node with the guide that leads to it, and how many short sends were left out."""
    rows: list[tuple[str, Node]] = []
    left_out = 0

    def below(node: Node) -> Iterator[Node]:
        nonlocal left_out
        for child in node.children:
            if not everything and _short_send(child, total):
                left_out += 1
                yield from below(child)
            else:
                yield child

    def add(node: Node, lead: str, branch: str, trunk: str) -> None:
        rows.append((lead + branch, node))
        children = sorted(below(node), key=lambda child: child.start)
        for child in children:
            last = child is children[-1]
            add(child, lead + trunk, "└ " if last else "├ ", "  " if last else "│ ")

    for root in roots:
        add(root, "", "", "")
    return rows, left_out


def _short_send(node: Node, total: float) -> bool:
    span = node.span
    return span is not None and span.role == "producer" and span.status == "ok" and span.ms / 1000 < LEAST_SEND * total


def _row(guide: str, node: Node, axis: Axis, where_width: int, name_width: int) -> Text:
    style = STYLES.get(node.tier, "white")
    failed = node.span is not None and node.span.status == "error"
    name = Text.assemble((guide, "bright_black"), (_name(node), "red" if failed else ""))
    name.truncate(name_width, overflow="ellipsis", pad=True)
    where = Text(_where(node), style)
    where.truncate(where_width, overflow="ellipsis", pad=True)
    took = duration(node.end - node.start) if node.span else "?"
    return Text.assemble(
        where, " ", name, " ", _drawn(node, axis, style), " ", (f"{took:>{TIME_WIDTH}}", "bold red" if failed else "")
    )


def _drawn(node: Node, axis: Axis, style: str) -> Text:
    words = ", ".join(_notes(node, axis.end - axis.begin))
    failed = node.span is not None and node.span.status == "error"
    if node.start >= axis.end and node.span:
        words = ", ".join([f"{duration(node.start - axis.end)} after the end", *_notes(node, axis.end - axis.begin)])
        note = Text(words, "dim")
        note.truncate(axis.cells, overflow="ellipsis")
        return Text.assemble(" " * (axis.cells - note.cell_len), note)
    note = Text(words, "red" if failed else "dim")
    return bar(axis, Stretch(node.asked, node.start, node.end), style if node.span else "bright_black", note)


def _where(node: Node) -> str:
    if node.span is None:
        return "?"
    instance = node.span.instance
    if not instance or instance == node.tier:
        return node.tier
    return instance if instance.startswith(node.tier) else f"{node.tier}/{instance[-8:]}"


def _name(node: Node) -> str:
    """The span's name, without what every name has."""
    if node.span is None:
        return "not reported"
    return node.span.name.replace(" poise.", " ").replace(".requests", "").removesuffix(".interactive")


def _notes(node: Node, total: float) -> Iterator[str]:
    """What is worth knowing of a span besides its time."""
    span = node.span
    if span is None:
        yield "still running, or its worker died"
        return
    if span.error:
        yield f"✗ {span.error}"
    if node.queued >= LEAST_WAIT * total:
        yield f"queued {duration(node.queued)}"
    for attribute, say in SAYINGS.items():
        if attribute in span.attributes and (said := say(span.attributes[attribute], span)):
            yield said


def _waited(ms: Attribute, _span: SpanRecord) -> str:
    return f"waited {duration(ms / 1000)} for the backend" if isinstance(ms, int | float) and ms >= 1 else ""


def _tokens(wrote: Attribute, span: SpanRecord) -> str:
    read = span.attributes.get(table.GEN_AI_INPUT_TOKENS, "?")
    speed = f", {wrote / span.ms * 1000:.0f}/s" if isinstance(wrote, int) and span.ms else ""
    return f"{read} → {wrote} tokens{speed}"


SAYINGS: Final[Mapping[str, Callable[[Attribute, SpanRecord], str]]] = MappingProxyType(
    {
        table.WAIT_MS: _waited,
        table.ATTEMPT: lambda attempt, _: "" if attempt == 1 else f"attempt {attempt}",
        table.GEN_AI_OUTPUT_TOKENS: _tokens,
        table.PASSAGES: lambda found, _: f"{found} passages",
        table.RUNG: lambda rung, _: str(rung),
        table.OUTCOME: lambda outcome, span: "" if outcome == "ok" or span.error else str(outcome),
    }
)
"""What is said of an attribute, in this order; to show another, add it here."""


def _scale(axis: Axis, indent: int) -> Text:
    total = duration(axis.end - axis.begin)
    return Text(" " * indent + "0" + "─" * (axis.cells - len(total) - 3) + " " + total, "bright_black")


# -- foot --------------------------------------------------------------------------------------------------------------


def _foot(roots: list[Node], left_out: int) -> Iterator[Text]:
    nodes = [node for root in roots for node in root.walk()]
    hosts = sorted({node.span.host for node in nodes if node.span})
    if left_out:
        yield Text(f"Left out: {left_out} short send{'s' if left_out > 1 else ''} (--all shows them).", "dim")
    if any(node.span is None for node in nodes):
        yield Text(
            "What is marked ? was not reported: it still runs, or its worker died before it could say.", "yellow"
        )
    if len(hosts) > 1:
        yield Text(f"Each time is by its own host's clock: {', '.join(hosts)}.", "dim")
    for skew in skews(roots):
        yield Text(
            f"The clock of {skew.host} is behind that of {skew.other} by {duration(skew.seconds)} at least.", "yellow"
        )
