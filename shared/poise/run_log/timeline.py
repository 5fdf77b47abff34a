"""A run's spans as a tree on one time axis, and which tier its time went to. Pure: no clock, no IO."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from poise.contracts.span import SpanRecord
from poise.telemetry import semconv


@dataclass(slots=True)
class SpanNode:
    """A span with what hangs below it. Times are unix seconds by the clock of the span's own host."""

    id: str
    span: SpanRecord | None
    """None stands for a span that others name as their parent and that nobody has reported."""
    children: "list[SpanNode]" = field(default_factory=list)

    @property
    def tier(self) -> str:
        """The tier whose work it is; empty where nobody has reported it."""
        return self.span.service.removeprefix("poise-") if self.span else ""

    @property
    def start(self) -> float:
        """When it began; of one that was not reported, when the first below it did."""
        return self.span.start if self.span else min(child.asked for child in self.children)

    @property
    def end(self) -> float:
        """When it ended; of one that was not reported, when the last below it did."""
        return self.span.start + self.span.ms / 1000 if self.span else max(child.end for child in self.children)

    @property
    def queued(self) -> float:
        """Seconds that its message waited in the topic."""
        waited = self.span.attributes.get(semconv.QUEUE_MS, 0) if self.span else 0
        return max(0.0, float(waited) / 1000) if isinstance(waited, int | float) else 0.0

    @property
    def asked(self) -> float:
        """When its message was sent: `start` less `queued`."""
        return self.start - self.queued

    def walk(self) -> "Iterator[SpanNode]":
        """This node and everything below it, parents first."""
        waiting = [self]
        while waiting:
            node = waiting.pop()
            yield node
            waiting.extend(reversed(node.children))


def span_tree(spans: Iterable[SpanRecord]) -> list[SpanNode]:
    """Put spans under their parents.

    A span whose parent was not reported hangs below a node that stands for it, unless it is how the run came in (the
    parent is then the caller's own). A span reported twice counts once, and a ring of parents is cut at its first span.

    Returns:
        The roots in order of time: one, when the run is finished and everything was reported.
    """
    nodes = {span.span_id: SpanNode(span.span_id, span) for span in sorted(spans, key=lambda s: s.start, reverse=True)}
    ordered = sorted(nodes.values(), key=lambda node: node.start)
    missing: dict[str, SpanNode] = {}
    roots: list[SpanNode] = []
    for node in ordered:
        parent = node.span.parent_id if node.span else None
        if parent is None or (parent not in nodes and _entry(node)):
            roots.append(node)
        elif parent in nodes:
            nodes[parent].children.append(node)
        else:
            if parent not in missing:
                missing[parent] = SpanNode(parent, None)
                roots.append(missing[parent])
            missing[parent].children.append(node)
    roots.extend(_cut_rings(ordered, roots))
    return sorted(roots, key=lambda node: node.asked)


def _entry(node: SpanNode) -> bool:
    """Whether this is where runs come in: HTTP, or a topic that anyone may write."""
    return node.span is not None and (node.span.role == "server" or node.span.name.startswith("process poise.ask."))


def _cut_rings(ordered: list[SpanNode], roots: list[SpanNode]) -> list[SpanNode]:
    reached = {node.id for root in roots for node in root.walk()}
    cut: list[SpanNode] = []
    for node in ordered:
        if node.id in reached:
            continue
        for other in ordered:
            other.children = [child for child in other.children if child is not node]
        cut.append(node)
        reached.update(below.id for below in node.walk())
    return cut


def time_range(roots: list[SpanNode]) -> tuple[float, float]:
    """When a run began and ended, unix seconds: its first root, or all there is while that was not reported."""
    if not roots:
        return 0.0, 0.0
    if roots[0].span is None:
        return roots[0].asked, max(root.end for root in roots)
    return roots[0].asked, roots[0].end


@dataclass(frozen=True, slots=True)
class TimeShares:
    """Where the time of a run went, in seconds; together they are `total`."""

    total: float
    tiers: dict[str, float]
    """By tier, the largest first: time in which it was the one at work."""
    waiting: dict[str, float]
    """By the tier waited for, the largest first: time in which a message lay in its topic."""
    transit: float
    """Time in which a caller waited and nobody was at work: messages on their way, there and back."""


def time_shares(roots: list[SpanNode]) -> TimeShares:
    """Split the time of a run, from `time_range`, among the tiers.

    Each moment goes to the innermost spans that are open then, in equal parts: a tier that waits for another is not
    at work. What comes after the window (evaluation, for one) keeps nobody waiting and is not counted.
    """
    begin, end = time_range(roots)
    pieces = list(_pieces(roots, begin, end))
    edges = sorted({begin, end, *(p.start for p in pieces), *(p.end for p in pieces)})
    tiers: dict[str, float] = defaultdict(float)
    waiting: dict[str, float] = defaultdict(float)
    transit = 0.0
    for left, right in pairwise(edges):
        active = [p for p in pieces if p.start <= left and p.end >= right]
        above = {ancestor for p in active for ancestor in p.ancestors}
        innermost = [p for p in active if p.id not in above]
        for piece in innermost:
            part = (right - left) / len(innermost)
            if piece.does == "call":
                transit += part
            else:
                (waiting if piece.does == "wait" else tiers)[piece.tier] += part
    return TimeShares(end - begin, _largest_first(tiers), _largest_first(waiting), transit)


_Does = Literal["work", "call", "wait"]


@dataclass(frozen=True, slots=True)
class _Piece:
    """A stretch of the axis that a node takes: its work, its call of another, or the wait before it."""

    id: str
    tier: str
    start: float
    end: float
    ancestors: tuple[str, ...]
    does: _Does


def _pieces(roots: list[SpanNode], begin: float, end: float) -> Iterator[_Piece]:
    open_: list[tuple[SpanNode, tuple[str, ...]]] = [(root, ()) for root in roots]
    while open_:
        node, ancestors = open_.pop()
        open_.extend((child, (*ancestors, node.id)) for child in node.children)
        if not node.span:
            continue
        calls = node.span.role == "client" and node.span.name.startswith("call ")
        stretches: tuple[tuple[str, float, float, _Does], ...] = (
            (f"{node.id}?", node.asked, node.start, "wait"),
            (node.id, node.start, node.end, "call" if calls else "work"),
        )
        for id_, start, stop, does in stretches:
            left, right = max(begin, start), min(end, stop)
            if right > left:
                yield _Piece(id_, node.tier, left, right, ancestors, does)


def _largest_first(seconds: dict[str, float]) -> dict[str, float]:
    return dict(sorted(seconds.items(), key=lambda item: -item[1]))


@dataclass(frozen=True, slots=True)
class ClockSkew:
    """Proof that two hosts' clocks differ: something appears to begin before what caused it."""

    host: str
    other: str
    seconds: float
    """At least by so much is `host` behind `other`."""


def clock_skews(roots: list[SpanNode]) -> list[ClockSkew]:
    """The proofs of clock skew between hosts that a run holds, the largest of each pair of hosts.

    That there is none proves nothing: clocks may differ by less than a message takes.
    """
    worst: dict[tuple[str, str], float] = {}
    for parent in (node for root in roots for node in root.walk() if node.span):
        for child in parent.children:
            if parent.span and child.span and child.span.host != parent.span.host:
                pair = (child.span.host, parent.span.host)
                worst[pair] = max(worst.get(pair, 0.0), parent.start - child.start)
    return [ClockSkew(host, other, by) for (host, other), by in sorted(worst.items()) if by > 0]
