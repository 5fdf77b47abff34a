"""History: what was seen of the act up to now; pure, so that a screen and a picture can be made of any."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from poise.contracts.policy import Sample

WINDOW: Final = 30
"""Answers of a variant that its quality is shown of: the last ones."""
Z95: Final = 1.959963984540054
MIN_FOR_INTERVAL: Final = 5

EventKind = Literal["set", "trouble", "noticed", "fixed", "back", "note"]


@dataclass(frozen=True, slots=True)
class ScoredAnswer:
    """One answer, as evaluation thinks of it."""

    at: float
    """When its run finished, unix seconds."""
    variant: str
    quality: float
    """0 to 1."""


@dataclass(frozen=True, slots=True)
class WeightsPoint:
    """The shares of the draws that a version of the policy gives."""

    at: float
    shares: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class TimelineEvent:
    """Something that happened."""

    at: float
    kind: EventKind
    text: str
    """In one line, for people."""


@dataclass(frozen=True, slots=True)
class EvidencePoint:
    """How far the evidence has come, as the decider has written it last."""

    value: float
    threshold: float
    """At which the mesh acts."""
    recovery: bool = False
    """That the variant has recovered; else that it is worse."""


@dataclass(frozen=True, slots=True)
class Example:
    """A question, and what the variant wrote."""

    question: str
    text: str


@dataclass(slots=True)
class Timeline:
    """What was seen of the act."""

    variants: tuple[str, ...]
    """The one that gets into trouble is the last."""
    began: float
    """Unix seconds."""
    now: float
    """Unix seconds."""
    headline: str = ""
    """What is going on now, in few words."""
    story: str = ""
    """And in plain ones."""
    answers: list[ScoredAnswer] = field(default_factory=list)
    weights: list[WeightsPoint] = field(default_factory=list)
    events: list[TimelineEvent] = field(default_factory=list)
    evidence: EvidencePoint | None = None
    """What speaks against the suspect, or for it once it was moved away from; None = not known yet."""
    example: Example | None = None
    """One of the answers that it was noticed by."""

    @property
    def suspect(self) -> str:
        """The variant that gets into trouble."""
        return self.variants[-1]

    def answers_of(self, variant: str, *, since: float = -math.inf, until: float = math.inf) -> list[ScoredAnswer]:
        """A variant's answers of a span of time, in the order in which they were finished."""
        return [one for one in self.answers if one.variant == variant and since <= one.at <= until]

    def quality(self, variant: str, *, until: float = math.inf, window: int = WINDOW) -> Sample | None:
        """The quality of a variant's last answers at a time; None before the first."""
        last = self.answers_of(variant, until=until)[-window:]
        return sample_of([one.quality for one in last]) if last else None

    def share(self, variant: str, *, until: float = math.inf) -> float:
        """A variant's share of the draws at a time; 0 before a policy was set."""
        return next((one.shares.get(variant, 0.0) for one in reversed(self.weights) if one.at <= until), 0.0)

    def first(self, kind: EventKind) -> TimelineEvent | None:
        """The first of a kind of thing that happened."""
        return next((one for one in self.events if one.kind == kind), None)

    def answers_between(self, first: EventKind, then: EventKind, variant: str) -> int | None:
        """How many answers a variant gave from one thing to another; None where either did not happen."""
        begun, ended = self.first(first), self.first(then)
        if begun is None or ended is None:
            return None
        return len(self.answers_of(variant, since=begun.at, until=ended.at))


def sample_of(values: Sequence[float]) -> Sample:
    """A sample of values of 0 to 1, with the 95 % interval of its mean (Student, 1908; its quantile to first order).

    Of fewer than five nothing is known but that they are between 0 and 1.

    Raises:
        ValueError: There are none.
    """
    if not values:
        raise ValueError("no values to sum up")
    count, mean = len(values), statistics.fmean(values)
    half = 1.0
    if count >= MIN_FOR_INTERVAL:
        quantile = Z95 * (1.0 + (Z95 * Z95 + 1.0) / (4.0 * (count - 1)))
        half = quantile * statistics.stdev(values) / math.sqrt(count)
    return Sample(count=count, mean=mean, low=max(0.0, mean - half), high=min(1.0, mean + half))


def format_clock(seconds: float) -> str:
    """A time of the act: `1:05`."""
    whole = max(0, round(seconds))
    return f"{whole // 60}:{whole % 60:02}"


def format_percent(share: float) -> str:
    """A share as people read it: `35 %`."""
    return f"{share:.0%}".replace("%", "\N{NO-BREAK SPACE}%")
