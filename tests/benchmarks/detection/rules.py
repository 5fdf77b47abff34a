"""Detection rules: Poise's detectors, a threshold, and A/B tests. Each may raise an alarm after an answer."""

import math
from collections import deque
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final, Protocol

from poise.contracts.policy import Limits
from poise.policy.detection import Detectors, Observation
from tests.benchmarks.detection.traffic import CANARY, PRIMARY

LAST: Final = 100
"""The number of answers in the threshold's mean."""
LEVEL: Final = 0.05
POWER: Final = 0.9
SOON: Final = 20
"""Answers of the canary before the result of a peeked test counts."""


class Rule(Protocol):
    """A detection rule, updated with one answer after another."""

    def update(self, answer: Observation) -> str | None:
        """Return the variant of an alarm, or None. An alarm resets the rule."""


class PoiseDetectors:
    """The detectors of a policy in Poise."""

    def __init__(self, quiet: int) -> None:
        self._detectors = Detectors((PRIMARY, CANARY), Limits(mean_answers_between_false_alarms=quiet))

    def update(self, answer: Observation) -> str | None:
        """Apply one answer."""
        finding = self._detectors.update(answer)
        return None if finding is None else finding.variant


class Threshold:
    """An alert: the mean of the last 100 answers of a variant is above a threshold."""

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._last: dict[str, deque[float]] = {}
        self._sum: dict[str, float] = {}

    def update(self, answer: Observation) -> str | None:
        """Apply one answer."""
        bad = answer.loss or 0.0
        last = self._last.setdefault(answer.variant, deque())
        last.append(bad)
        total = self._sum.get(answer.variant, 0.0) + bad
        if len(last) > LAST:
            total -= last.popleft()
        self._sum[answer.variant] = total
        if len(last) < LAST or total <= self._threshold * LAST + 1e-9:
            return None
        last.clear()
        self._sum[answer.variant] = 0.0
        return answer.variant


class ArmStatistics:
    """The sums of one variant in an experiment."""

    def __init__(self) -> None:
        self.count = 0
        self.sum = 0.0
        self.squares = 0.0

    def add(self, value: float) -> None:
        """Apply one answer."""
        self.count += 1
        self.sum += value
        self.squares += value * value


@dataclass(frozen=True, slots=True)
class Moments:
    """Mean and variance of the loss of answers."""

    mean: float
    variance: float


class Experiment:
    """Successive fixed-horizon A/B tests of whether the canary is worse: one-sided z-test at 5 %.

    For labels of 0 and 1 it is the two-proportion z-test with pooled variance.

    Args:
        planned: Answers of the canary after which a test ends.
        peeked: Whether the result is read after each answer.
    """

    def __init__(self, planned: int, *, peeked: bool) -> None:
        self._planned = planned
        self._peeked = peeked
        self._arms = {PRIMARY: ArmStatistics(), CANARY: ArmStatistics()}

    def update(self, answer: Observation) -> str | None:
        """Apply one answer."""
        self._arms[answer.variant].add(answer.loss or 0.0)
        canary, primary = self._arms[CANARY], self._arms[PRIMARY]
        over = canary.count >= self._planned
        if not over and not (self._peeked and canary.count >= SOON and primary.count >= SOON):
            return None
        found = z(canary, primary) > NormalDist().inv_cdf(1.0 - LEVEL)
        if found or over:
            self._arms = {PRIMARY: ArmStatistics(), CANARY: ArmStatistics()}
        return CANARY if found else None


def z(one: ArmStatistics, other: ArmStatistics) -> float:
    """Return the difference of the means in standard errors, with pooled variance."""
    count = one.count + other.count
    mean = (one.sum + other.sum) / count
    variance = (one.squares + other.squares) / count - mean * mean
    if variance <= 0.0 or not one.count or not other.count:
        return 0.0
    return (one.sum / one.count - other.sum / other.count) / math.sqrt(variance * (1 / one.count + 1 / other.count))


def planned(good: Moments, worse: Moments, share: float) -> int:
    """Return the canary's answers that the test needs for its power, by the normal approximation.

    Args:
        good: The moments of the primary's answers.
        worse: The moments of the canary's answers after its change.
        share: The canary's share of the answers.
    """
    wanted = NormalDist().inv_cdf(1.0 - LEVEL) + NormalDist().inv_cdf(POWER)
    variance = worse.variance + good.variance * share / (1.0 - share)
    return math.ceil(variance * (wanted / (worse.mean - good.mean)) ** 2)
