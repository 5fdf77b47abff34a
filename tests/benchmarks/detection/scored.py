"""The loss of answers by the steering scores, as measured by `make bench-scores`."""

import random
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from poise.contracts.policy import Limits
from tests.benchmarks.detection.rules import Moments
from tests.benchmarks.detection.traffic import Scored, truly

MEASURED: Final = Path(__file__).parents[1] / "scores" / "measured.toml"
"""By set of labeled answers and score: `sensitivity` and `specificity` for wrong answers, below `threshold`; in `good`
and `bad` evenly spaced, ascending quantiles of the score of right and of wrong answers."""
STEERS: Final = Limits().score
GRID: Final = 2_000


@dataclass(frozen=True, slots=True)
class Steering:
    """A steering score: its loss of right and wrong answers."""

    name: str
    scored: Scored
    right: Moments
    wrong: Moments

    @classmethod
    def of(cls, name: str, scored: Scored) -> Self:
        """Create a steering score with its moments over a seeded sample."""
        return cls(name, scored, moments(scored, wrong=False), moments(scored, wrong=True))

    def mixed(self, share: float) -> Moments:
        """Return the moments of answers with that share of wrong ones."""
        mean = share * self.wrong.mean + (1.0 - share) * self.right.mean
        squares = share * (self.wrong.variance + self.wrong.mean**2)
        squares += (1.0 - share) * (self.right.variance + self.right.mean**2)
        return Moments(mean, squares - mean * mean)


def moments(scored: Scored, *, wrong: bool) -> Moments:
    """Return mean and variance of the loss of right or wrong answers."""
    chance = random.Random(1)
    values = [scored(wrong, chance) for _ in range(GRID)]
    mean = sum(values) / GRID
    return Moments(mean, sum((value - mean) ** 2 for value in values) / GRID)


@dataclass(frozen=True, slots=True)
class ThresholdScore:
    """A score cut at a threshold: labels answers right or wrong, with its sensitivity and specificity."""

    sensitivity: float
    specificity: float

    def __call__(self, wrong: bool, chance: random.Random) -> float:  # as `truly`
        """Return the loss of an answer."""
        labeled_wrong = chance.random() < (self.sensitivity if wrong else 1.0 - self.specificity)
        return float(labeled_wrong)


@dataclass(frozen=True, slots=True)
class QuantileScore:
    """A continuous score, drawn from its measured quantiles."""

    good: Sequence[float]
    bad: Sequence[float]

    def __call__(self, wrong: bool, chance: random.Random) -> float:  # as `truly`
        """Return the loss of an answer."""
        values = self.bad if wrong else self.good
        place = chance.random() * (len(values) - 1)
        low = int(place)
        high = min(low + 1, len(values) - 1)
        return 1.0 - (values[low] + (place - low) * (values[high] - values[low]))


def labels() -> Steering:
    """Return the true labels as a steering score."""
    return Steering.of("true labels", truly)


def measured(path: Path = MEASURED) -> list[Steering]:
    """Return the measured steering scores, continuous and cut at their thresholds; none without measurements."""
    if not path.exists():
        return []
    found: list[Steering] = []
    for labeled, scores in tomllib.loads(path.read_text()).items():
        if STEERS in scores:
            found += steering(f"{STEERS}, {labeled}", scores[STEERS])
    return found


def steering(name: str, of: Mapping[str, Any]) -> list[Steering]:
    """Return one score, continuous and cut at its threshold."""
    rates = f"sensitivity {of['sensitivity']:.2f}, specificity {of['specificity']:.2f}"
    cut = ThresholdScore(of["sensitivity"], of["specificity"])
    found = [Steering.of(f"{name} < {of['threshold']:g} ({rates})", cut)]
    if of.get("good") and of.get("bad"):
        found.insert(0, Steering.of(name, QuantileScore(sorted(of["good"]), sorted(of["bad"]))))
    return found
