"""Counts and mean losses of each variant's answers, since any marked time."""

import math
from collections.abc import Sequence
from typing import Any, Final, Literal, Self

from poise.contracts.policy import Sample

Measure = Literal["loss", "over_latency", "over_cost"]
MEASURES: Final[tuple[Measure, ...]] = ("loss", "over_latency", "over_cost")
RECENT_ANSWERS: Final = 100.0
"""Answers in a variant's recent mean."""
Z95: Final = 1.959963984540054
"""The two-sided 95 % quantile of the standard normal distribution."""

Totals = tuple[float, ...]


class Counts:
    """Counts and sums by measure and variant."""

    def __init__(self, variants: Sequence[str]) -> None:
        self._index = {variant: 2 * index for index, variant in enumerate(variants)}
        self._totals = {measure: [0.0] * (2 * len(variants)) for measure in MEASURES}
        self._recent = dict.fromkeys(variants, (0.5, 1.0))
        self._marks: dict[Measure, Totals] = {}

    def add(self, variant: str, measure: Measure, value: float) -> None:
        """Add an answer."""
        totals = self._totals[measure]
        index = self._index[variant]
        totals[index] += 1.0
        totals[index + 1] += value
        self._marks.pop(measure, None)
        if measure == "loss":
            mean, weight = self._recent[variant]
            weight = min(weight + 1.0, RECENT_ANSWERS)
            self._recent[variant] = (mean + (value - mean) / weight, weight)

    def recent(self, variant: str) -> float:
        """Return the recent mean loss of a variant."""
        return self._recent[variant][0]

    def mark(self, measure: Measure) -> Totals:
        """Return the totals up to now, to pass to `since` and `between`."""
        mark = self._marks.get(measure)
        if mark is None:
            mark = self._marks[measure] = tuple(self._totals[measure])
        return mark

    def since(self, measure: Measure, mark: Totals, variant: str) -> tuple[int, float]:
        """Return the number of a variant's answers since a mark, and their mean."""
        return self.between(mark, self._totals[measure], variant)

    def between(self, mark: Sequence[float], later: Sequence[float], variant: str) -> tuple[int, float]:
        """Return the number of a variant's answers between two marks, and their mean."""
        index = self._index[variant]
        count = later[index] - mark[index]
        return round(count), (later[index + 1] - mark[index + 1]) / count if count else 0.0

    def samples(self, measure: Measure, mark: Totals) -> dict[str, Sample]:
        """Return the samples of the variants since a mark; for the loss, of the score (more is better)."""
        found = {variant: self.since(measure, mark, variant) for variant in self._index}
        return {
            variant: wilson_sample(count, 1.0 - mean if measure == "loss" else mean)
            for variant, (count, mean) in found.items()
            if count
        }

    def snapshot(self) -> list[Any]:
        """Return the state as JSON values."""
        return [[self._totals[measure] for measure in MEASURES], [list(recent) for recent in self._recent.values()]]

    @classmethod
    def restore(cls, variants: Sequence[str], values: Sequence[Any]) -> Self:
        """Return the counts of a snapshot."""
        counts = cls(variants)
        totals, recent = values
        counts._totals = {measure: list(totals[index]) for index, measure in enumerate(MEASURES)}
        counts._recent = {variant: (mean, weight) for variant, (mean, weight) in zip(variants, recent, strict=True)}
        return counts


def wilson_sample(count: int, mean: float) -> Sample:
    """Return a sample of values of 0 to 1, with the 95 % score interval of its mean (Wilson, 1927).

    The interval is approximate, and wider than necessary for values between 0 and 1.
    """
    mean = min(1.0, max(0.0, mean))
    shrink = 1.0 + Z95 * Z95 / count
    middle = (mean + Z95 * Z95 / (2 * count)) / shrink
    half = Z95 * math.sqrt(mean * (1.0 - mean) / count + Z95 * Z95 / (4.0 * count * count)) / shrink
    return Sample(
        count=count,
        mean=round(mean, 4),
        low=round(max(0.0, middle - half), 4),
        high=round(min(1.0, middle + half), 4),
    )
