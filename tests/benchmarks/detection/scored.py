"""Scored: how bad answers are taken to be by the scores that steer, as `make bench-scores` has measured these."""

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
"""By set of labelled answers and score: `sensitivity` and `specificity` of wrong answers, below `threshold`; in `good`
and `bad` evenly spaced quantiles of the score of right and of wrong answers, from the least to the most."""
STEERS: Final = Limits().score
GRID: Final = 2_000


@dataclass(frozen=True, slots=True)
class Steering:
    """Something that steers."""

    name: str
    scored: Scored
    right: Moments
    wrong: Moments

    @classmethod
    def of(cls, name: str, scored: Scored) -> Self:
        """With its moments, over a seeded sample."""
        return cls(name, scored, moments(scored, wrong=False), moments(scored, wrong=True))

    def mixed(self, share: float) -> Moments:
        """Of answers of which that share is wrong."""
        mean = share * self.wrong.mean + (1.0 - share) * self.right.mean
        squares = share * (self.wrong.variance + self.wrong.mean**2)
        squares += (1.0 - share) * (self.right.variance + self.right.mean**2)
        return Moments(mean, squares - mean * mean)


def moments(scored: Scored, *, wrong: bool) -> Moments:
    """Mean and variance of one kind of answers."""
    chance = random.Random(1)
    values = [scored(wrong, chance) for _ in range(GRID)]
    mean = sum(values) / GRID
    return Moments(mean, sum((value - mean) ** 2 for value in values) / GRID)


@dataclass(frozen=True, slots=True)
class Judge:
    """A score with a threshold: right or wrong, each with its own probability of being told so."""

    sensitivity: float
    specificity: float

    def __call__(self, wrong: bool, chance: random.Random) -> float:  # as `truly`
        """How bad an answer is taken to be."""
        told = chance.random() < (self.sensitivity if wrong else 1.0 - self.specificity)
        return float(told)


@dataclass(frozen=True, slots=True)
class Quantiles:
    """A score as it is, drawn from its measured quantiles."""

    good: Sequence[float]
    bad: Sequence[float]

    def __call__(self, wrong: bool, chance: random.Random) -> float:  # as `truly`
        """How bad an answer is taken to be."""
        values = self.bad if wrong else self.good
        place = chance.random() * (len(values) - 1)
        low = int(place)
        high = min(low + 1, len(values) - 1)
        return 1.0 - (values[low] + (place - low) * (values[high] - values[low]))


def labels() -> Steering:
    """True labels."""
    return Steering.of("true labels", truly)


def measured(path: Path = MEASURED) -> list[Steering]:
    """The score that steers as measured, as it is and cut at its threshold; none where nothing was measured yet."""
    if not path.exists():
        return []
    found: list[Steering] = []
    for labelled, scores in tomllib.loads(path.read_text()).items():
        if STEERS in scores:
            found += steering(f"{STEERS}, {labelled}", scores[STEERS])
    return found


def steering(name: str, of: Mapping[str, Any]) -> list[Steering]:
    """One score, as it is and cut at its threshold."""
    told = f"{name} < {of['threshold']:g} (sensitivity {of['sensitivity']:.2f}, specificity {of['specificity']:.2f})"
    found = [Steering.of(told, Judge(of["sensitivity"], of["specificity"]))]
    if of.get("good") and of.get("bad"):
        found.insert(0, Steering.of(name, Quantiles(sorted(of["good"]), sorted(of["bad"]))))
    return found
