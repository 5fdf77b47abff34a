"""Figures: what was measured, once per repetition, and the ratios that are aimed at."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which that share of the values lies (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


@dataclass(frozen=True, slots=True)
class Figure:
    """One measure of one contestant, a value for each repetition."""

    measure: str
    """With its unit: `messages/s`."""
    contestant: str
    values: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.values)


@dataclass(frozen=True, slots=True)
class Ratio:
    """What is aimed at: a figure of ours over a baseline's, repetition by repetition."""

    what: str
    values: list[float]
    aim: float
    at_least: bool = True
    """False: at most."""
    unit: str = "×"

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.values)

    @property
    def met(self) -> bool:
        """Whether the median is where it should be."""
        return self.median >= self.aim if self.at_least else self.median <= self.aim


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one scenario found."""

    scenario: str
    figures: list[Figure]
    ratios: list[Ratio] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class Collected:
    """Figures as they come, repetition by repetition."""

    def __init__(self) -> None:
        self._figures: dict[tuple[str, str], Figure] = {}

    def add(self, measure: str, contestant: str, value: float) -> None:
        """Add one repetition's value."""
        self._figures.setdefault((measure, contestant), Figure(measure, contestant)).values.append(value)

    def figures(self) -> list[Figure]:
        """All of them."""
        return list(self._figures.values())

    def values(self, measure: str, contestant: str) -> list[float]:
        """One figure's values."""
        return self._figures[measure, contestant].values

    def ratio(self, measure: str, ours: str, other: str) -> list[float]:
        """Ours over the other's, by repetition."""
        pairs = zip(self.values(measure, ours), self.values(measure, other), strict=True)
        return [mine / its for mine, its in pairs]
