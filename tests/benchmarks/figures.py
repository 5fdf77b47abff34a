"""Measured figures, one value for each repetition, and ratios with a target."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which that share of the values lies (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


@dataclass(frozen=True, slots=True)
class Figure:
    """One measure of one contestant, with a value for each repetition."""

    measure: str
    """With its unit: `messages/s`."""
    contestant: str
    values: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """Return the median of the repetitions."""
        return statistics.median(self.values)


@dataclass(frozen=True, slots=True)
class Ratio:
    """A figure of Poise divided by a baseline's, for each repetition, with a target."""

    what: str
    values: list[float]
    aim: float
    at_least: bool = True
    """False: the target is an upper limit."""
    unit: str = "×"

    @property
    def median(self) -> float:
        """Return the median of the repetitions."""
        return statistics.median(self.values)

    @property
    def met(self) -> bool:
        """Return whether the median meets the target."""
        return self.median >= self.aim if self.at_least else self.median <= self.aim


@dataclass(frozen=True, slots=True)
class ScenarioResult:
    """The figures and ratios of one scenario."""

    scenario: str
    figures: list[Figure]
    ratios: list[Ratio] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class FigureCollector:
    """Collects figures over the repetitions."""

    def __init__(self) -> None:
        self._figures: dict[tuple[str, str], Figure] = {}

    def add(self, measure: str, contestant: str, value: float) -> None:
        """Add the value of one repetition."""
        self._figures.setdefault((measure, contestant), Figure(measure, contestant)).values.append(value)

    def figures(self) -> list[Figure]:
        """Return all figures."""
        return list(self._figures.values())

    def values(self, measure: str, contestant: str) -> list[float]:
        """Return the values of one figure."""
        return self._figures[measure, contestant].values

    def ratio(self, measure: str, ours: str, other: str) -> list[float]:
        """Return the ratio of two contestants in each repetition."""
        pairs = zip(self.values(measure, ours), self.values(measure, other), strict=True)
        return [mine / its for mine, its in pairs]
