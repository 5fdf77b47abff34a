"""Timeline: the observations of an act so far. Pure: the screen and the picture are both rendered from it."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from poise.contracts.policy import Sample
from poise.scoring.summary import Z95

WINDOW: Final = 30
"""The number of a variant's last answers over which its quality is shown."""
MIN_FOR_INTERVAL: Final = 5

EventKind = Literal["set", "fault", "noticed", "fault_fixed", "restored", "note"]


@dataclass(frozen=True, slots=True)
class ScoredAnswer:
    """One answer with its score."""

    at: float
    """When its run finished, unix seconds."""
    variant: str
    quality: float
    """0 to 1."""


@dataclass(frozen=True, slots=True)
class WeightsPoint:
    """The weights of one version of the policy."""

    at: float
    shares: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class TimelineEvent:
    """An event of the act."""

    at: float
    kind: EventKind
    text: str
    """One line for a person."""


@dataclass(frozen=True, slots=True)
class EvidencePoint:
    """The evidence in the decider's last snapshot."""

    value: float
    threshold: float
    """The value at which the mesh acts."""
    recovery: bool = False
    """True: evidence that the variant has recovered; False: that it is worse."""


@dataclass(frozen=True, slots=True)
class Example:
    """A question and the variant's answer."""

    question: str
    text: str


@dataclass(slots=True)
class Timeline:
    """The observations of an act."""

    variants: tuple[str, ...]
    """The last one gets the fault."""
    began: float
    """Unix seconds."""
    now: float
    """Unix seconds."""
    headline: str = ""
    """The current part of the act, in a few words."""
    story: str = ""
    """The same in full sentences."""
    answers: list[ScoredAnswer] = field(default_factory=list)
    weights: list[WeightsPoint] = field(default_factory=list)
    events: list[TimelineEvent] = field(default_factory=list)
    evidence: EvidencePoint | None = None
    """Evidence against the suspect, or for its recovery after its weight was decreased; None = none yet."""
    example: Example | None = None
    """One of the answers that caused the alarm."""

    @property
    def suspect(self) -> str:
        """The variant that gets the fault."""
        return self.variants[-1]

    def answers_of(self, variant: str, *, since: float = -math.inf, until: float = math.inf) -> list[ScoredAnswer]:
        """Return a variant's answers between two times, in the order in which their runs finished."""
        return [one for one in self.answers if one.variant == variant and since <= one.at <= until]

    def quality(self, variant: str, *, until: float = math.inf, window: int = WINDOW) -> Sample | None:
        """Return the quality of a variant's last answers before a time; None before the first."""
        last = self.answers_of(variant, until=until)[-window:]
        return sample_of([one.quality for one in last]) if last else None

    def share(self, variant: str, *, until: float = math.inf) -> float:
        """Return a variant's weight at a time; 0 before a policy was set."""
        return next((one.shares.get(variant, 0.0) for one in reversed(self.weights) if one.at <= until), 0.0)

    def first(self, kind: EventKind) -> TimelineEvent | None:
        """Return the first event of a kind."""
        return next((one for one in self.events if one.kind == kind), None)

    def answers_between(self, first: EventKind, then: EventKind, variant: str) -> int | None:
        """Return the number of a variant's answers between two events; None if either did not happen."""
        begun, ended = self.first(first), self.first(then)
        if begun is None or ended is None:
            return None
        return len(self.answers_of(variant, since=begun.at, until=ended.at))


def sample_of(values: Sequence[float]) -> Sample:
    """Return the sample of values between 0 and 1, with the 95 % interval of its mean (Student, 1908, to first order).

    For fewer than five values the interval is 0 to 1.

    Raises:
        ValueError: There are no values.
    """
    if not values:
        raise ValueError("no values to summarize")
    count, mean = len(values), statistics.fmean(values)
    half = 1.0
    if count >= MIN_FOR_INTERVAL:
        quantile = Z95 * (1.0 + (Z95 * Z95 + 1.0) / (4.0 * (count - 1)))
        half = quantile * statistics.stdev(values) / math.sqrt(count)
    return Sample(count=count, mean=mean, low=max(0.0, mean - half), high=min(1.0, mean + half))


def format_clock(seconds: float) -> str:
    """Format a time of the act as `1:05`."""
    whole = max(0, round(seconds))
    return f"{whole // 60}:{whole % 60:02}"


def format_percent(share: float) -> str:
    """Format a share as `35 %`."""
    return f"{share:.0%}".replace("%", "\N{NO-BREAK SPACE}%")
