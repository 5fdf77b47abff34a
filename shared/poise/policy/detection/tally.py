"""Tally: how many answers each variant gave and how bad they were, since any time that was marked."""

import math
from collections.abc import Sequence
from typing import Final, Literal

from poise.contracts.policy import Sample

Measure = Literal["bad", "slow", "dear"]
MEASURES: Final[tuple[Measure, ...]] = ("bad", "slow", "dear")
Z: Final = 1.959963984540054

Totals = tuple[float, ...]


class Tally:
    """Counts and sums by measure and variant."""

    def __init__(self, variants: Sequence[str], kept: Sequence[Sequence[float]] = ()) -> None:
        self._place = {variant: 2 * place for place, variant in enumerate(variants)}
        empty = [0.0] * (2 * len(variants))
        self._totals = {measure: list(kept[place]) if kept else list(empty) for place, measure in enumerate(MEASURES)}
        self._marks: dict[Measure, Totals] = {}

    def add(self, variant: str, measure: Measure, value: float) -> None:
        """Count an answer."""
        totals = self._totals[measure]
        place = self._place[variant]
        totals[place] += 1.0
        totals[place + 1] += value
        self._marks.pop(measure, None)

    def mark(self, measure: Measure) -> Totals:
        """What was counted up to now."""
        mark = self._marks.get(measure)
        if mark is None:
            mark = self._marks[measure] = tuple(self._totals[measure])
        return mark

    def since(self, measure: Measure, mark: Totals, variant: str) -> tuple[int, float]:
        """How many answers a variant gave since a mark, and the mean."""
        place = self._place[variant]
        totals = self._totals[measure]
        count = totals[place] - mark[place]
        return round(count), (totals[place + 1] - mark[place + 1]) / count if count else 0.0

    def samples(self, measure: Measure, mark: Totals) -> dict[str, Sample]:
        """All variants that answered since a mark; of the quality, the mean of the score, where more is better."""
        found = {variant: self.since(measure, mark, variant) for variant in self._place}
        return {
            variant: sample(count, 1.0 - mean if measure == "bad" else mean)
            for variant, (count, mean) in found.items()
            if count
        }

    def snapshot(self) -> list[list[float]]:
        """As JSON has it."""
        return [self._totals[measure] for measure in MEASURES]


def sample(count: int, mean: float) -> Sample:
    """A sample of values of 0 to 1, with the 95 % score interval of its mean (Wilson, 1927).

    It is exact for values of 0 and 1 alone, and wider than need be for others.
    """
    mean = min(1.0, max(0.0, mean))
    shrink = 1.0 + Z * Z / count
    middle = (mean + Z * Z / (2 * count)) / shrink
    half = Z * math.sqrt(mean * (1.0 - mean) / count + Z * Z / (4.0 * count * count)) / shrink
    return Sample(
        count=count,
        mean=round(mean, 4),
        low=round(max(0.0, middle - half), 4),
        high=round(min(1.0, middle + half), 4),
    )
