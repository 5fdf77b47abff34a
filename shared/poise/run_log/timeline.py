"""The spans of a run as a tree, and the time of each tier. No clock, no I/O."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from poise.contracts.span import SpanRecord
from poise.telemetry import semconv


@dataclass(slots=True)
class SpanNode:
    """A span and its children. Times are unix seconds by the clock of the span's host."""

    id: str
    span: SpanRecord | None
    """None = a missing span: others name it as their parent, but it was not reported."""
    children: "list[SpanNode]" = field(default_factory=list)

    @property
    def tier(self) -> str:
        """The tier of the span; empty if the span is missing."""
        return self.span.service.removeprefix("poise-") if self.span else ""

    @property
    def start(self) -> float:
        """When the span began; of a missing span, when the first message of its children was sent."""
        return self.span.start if self.span else min(child.sent_at for child in self.children)

    @property
    def end(self) -> float:
        """When the span ended; of a missing span, when the last of its children ended."""
        return self.span.start + self.span.ms / 1000 if self.span else max(child.end for child in self.children)

    @property
    def queued(self) -> float:
        """Seconds that its message waited in the topic."""
        waited = self.span.attributes.get(semconv.QUEUE_MS, 0) if self.span else 0
        return max(0.0, float(waited) / 1000) if isinstance(waited, int | float) else 0.0

    @property
    def sent_at(self) -> float:
        """When its message was sent: `start` minus `queued`."""
        return self.start - self.queued

    def walk(self) -> "Iterator[SpanNode]":
        """Yield this node and its descendants, parents first."""
        waiting = [self]
        while waiting:
            node = waiting.pop()
            yield node
            waiting.extend(reversed(node.children))


def span_tree(spans: Iterable[SpanRecord]) -> list[SpanNode]:
    """Build the trees of spans.

    A missing parent is represented by a node without a span, except for the entry span of a run, whose parent is the
    caller's own. Duplicate spans count once, and a cycle of parents is broken at its first span.

    Returns:
        The roots in order of time; a single one if the run is finished and all its spans were reported.
    """
    nodes = {span.span_id: SpanNode(span.span_id, span) for span in sorted(spans, key=lambda s: s.start, reverse=True)}
    ordered = sorted(nodes.values(), key=lambda node: node.start)
    missing: dict[str, SpanNode] = {}
    roots: list[SpanNode] = []
    for node in ordered:
        parent = node.span.parent_id if node.span else None
        if parent is None or (parent not in nodes and _is_entry(node)):
            roots.append(node)
        elif parent in nodes:
            nodes[parent].children.append(node)
        else:
            if parent not in missing:
                missing[parent] = SpanNode(parent, None)
                roots.append(missing[parent])
            missing[parent].children.append(node)
    roots.extend(_break_cycles(ordered, roots))
    return sorted(roots, key=lambda node: node.sent_at)


def _is_entry(node: SpanNode) -> bool:
    """Return whether a span is the entry of a run: an HTTP request, or a message on a public topic."""
    return node.span is not None and (node.span.role == "server" or node.span.name.startswith("process poise.ask."))


def _break_cycles(ordered: list[SpanNode], roots: list[SpanNode]) -> list[SpanNode]:
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
    """Return when a run began and ended, unix seconds: the range of the first root, or of all if it is missing."""
    if not roots:
        return 0.0, 0.0
    if roots[0].span is None:
        return roots[0].sent_at, max(root.end for root in roots)
    return roots[0].sent_at, roots[0].end


@dataclass(frozen=True, slots=True)
class TimeShares:
    """The time of a run by tier, in seconds; the parts sum to `total`."""

    total: float
    tiers: dict[str, float]
    """By tier, the largest first: time in which the tier worked."""
    waiting: dict[str, float]
    """By tier, the largest first: time in which a message waited in a topic of the tier."""
    transit: float
    """Time in which a caller waited and no tier worked: requests and replies in transit."""


def time_shares(roots: list[SpanNode]) -> TimeShares:
    """Split the time of a run (its `time_range`) among the tiers.

    Each moment is split equally among the innermost open spans: a tier that waits for another does not work. Spans
    after the range, such as those of evaluation, delay no caller and are not counted.
    """
    begin, end = time_range(roots)
    intervals = list(_intervals(roots, begin, end))
    edges = sorted({begin, end, *(p.start for p in intervals), *(p.end for p in intervals)})
    tiers: dict[str, float] = defaultdict(float)
    waiting: dict[str, float] = defaultdict(float)
    transit = 0.0
    for left, right in pairwise(edges):
        active = [p for p in intervals if p.start <= left and p.end >= right]
        above = {ancestor for p in active for ancestor in p.ancestors}
        innermost = [p for p in active if p.id not in above]
        for interval in innermost:
            part = (right - left) / len(innermost)
            if interval.activity == "call":
                transit += part
            else:
                (waiting if interval.activity == "wait" else tiers)[interval.tier] += part
    return TimeShares(end - begin, _largest_first(tiers), _largest_first(waiting), transit)


_Activity = Literal["work", "call", "wait"]


@dataclass(frozen=True, slots=True)
class _Interval:
    """A time interval of a node: its work, its call to another tier, or the wait in the topic before it."""

    id: str
    tier: str
    start: float
    end: float
    ancestors: tuple[str, ...]
    activity: _Activity


def _intervals(roots: list[SpanNode], begin: float, end: float) -> Iterator[_Interval]:
    pending: list[tuple[SpanNode, tuple[str, ...]]] = [(root, ()) for root in roots]
    while pending:
        node, ancestors = pending.pop()
        pending.extend((child, (*ancestors, node.id)) for child in node.children)
        if not node.span:
            continue
        is_call = node.span.role == "client" and node.span.name.startswith("call ")
        intervals: tuple[tuple[str, float, float, _Activity], ...] = (
            (f"{node.id}?", node.sent_at, node.start, "wait"),
            (node.id, node.start, node.end, "call" if is_call else "work"),
        )
        for id_, start, stop, activity in intervals:
            left, right = max(begin, start), min(end, stop)
            if right > left:
                yield _Interval(id_, node.tier, left, right, ancestors, activity)


def _largest_first(seconds: dict[str, float]) -> dict[str, float]:
    return dict(sorted(seconds.items(), key=lambda item: -item[1]))


@dataclass(frozen=True, slots=True)
class ClockSkew:
    """Proof that the clocks of two hosts differ: a span appears to begin before its parent."""

    host: str
    other: str
    seconds: float
    """How far `host` is behind `other`, at least."""


def clock_skews(roots: list[SpanNode]) -> list[ClockSkew]:
    """Return the proofs of clock skew in a run, the largest for each pair of hosts.

    Without proof, clocks may still differ, by less than the delay of a message.
    """
    largest: dict[tuple[str, str], float] = {}
    for parent in (node for root in roots for node in root.walk() if node.span):
        for child in parent.children:
            if parent.span and child.span and child.span.host != parent.span.host:
                pair = (child.span.host, parent.span.host)
                largest[pair] = max(largest.get(pair, 0.0), parent.start - child.start)
    return [ClockSkew(host, other, by) for (host, other), by in sorted(largest.items()) if by > 0]
