"""Rules: ours, a threshold, and A/B tests: each says after an answer for which variant it raises alarm, if it does."""

import math
from collections import deque
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final, Protocol

from poise.contracts.policy import Limits
from poise.policy.detection import Detectors, Observation
from tests.benchmarks.detection.traffic import CANARY, PRIMARY

LAST: Final = 100
"""Answers of the threshold's mean."""
LEVEL: Final = 0.05
POWER: Final = 0.9
SOON: Final = 20
"""Answers of the canary before a test that is looked at is believed."""


class Rule(Protocol):
    """Looks at one answer after another."""

    def update(self, answer: Observation) -> str | None:
        """The variant that an alarm is raised for; it begins anew."""


class Ours:
    """The detectors of a policy."""

    def __init__(self, quiet: int) -> None:
        self._detectors = Detectors((PRIMARY, CANARY), Limits(mean_answers_between_false_alarms=quiet))

    def update(self, answer: Observation) -> str | None:
        """One answer."""
        finding = self._detectors.update(answer)
        return None if finding is None else finding.variant


class Threshold:
    """An alert: the mean of the last 100 answers of a variant is above a threshold."""

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._last: dict[str, deque[float]] = {}
        self._sum: dict[str, float] = {}

    def update(self, answer: Observation) -> str | None:
        """One answer."""
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


class Arm:
    """What an experiment knows of one variant."""

    def __init__(self) -> None:
        self.count = 0
        self.sum = 0.0
        self.squares = 0.0

    def add(self, value: float) -> None:
        """One answer."""
        self.count += 1
        self.sum += value
        self.squares += value * value


@dataclass(frozen=True, slots=True)
class Moments:
    """Mean and variance of how bad answers are."""

    mean: float
    variance: float


class Experiment:
    """A fixed-horizon A/B test, one after another: is the canary worse, one-sided z at 5 %.

    Of labels of 0 and 1 it is the two-proportion z-test with pooled variance.

    Args:
        planned: Answers of the canary after which it is read.
        peeked: It is read at each answer, as if each were the last.
    """

    def __init__(self, planned: int, *, peeked: bool) -> None:
        self._planned = planned
        self._peeked = peeked
        self._arms = {PRIMARY: Arm(), CANARY: Arm()}

    def update(self, answer: Observation) -> str | None:
        """One answer."""
        self._arms[answer.variant].add(answer.loss or 0.0)
        canary, primary = self._arms[CANARY], self._arms[PRIMARY]
        over = canary.count >= self._planned
        if not over and not (self._peeked and canary.count >= SOON and primary.count >= SOON):
            return None
        found = z(canary, primary) > NormalDist().inv_cdf(1.0 - LEVEL)
        if found or over:
            self._arms = {PRIMARY: Arm(), CANARY: Arm()}
        return CANARY if found else None


def z(one: Arm, other: Arm) -> float:
    """How many standard errors the mean of one is above the other's, of pooled variance."""
    count = one.count + other.count
    mean = (one.sum + other.sum) / count
    variance = (one.squares + other.squares) / count - mean * mean
    if variance <= 0.0 or not one.count or not other.count:
        return 0.0
    return (one.sum / one.count - other.sum / other.count) / math.sqrt(variance * (1 / one.count + 1 / other.count))


def planned(good: Moments, worse: Moments, share: float) -> int:
    """Answers of the canary that the test needs for its power, by the normal approximation.

    Args:
        good: Of the primary's answers.
        worse: Of the canary's, as it is to be noticed.
        share: Of the answers, those of the canary.
    """
    wanted = NormalDist().inv_cdf(1.0 - LEVEL) + NormalDist().inv_cdf(POWER)
    variance = worse.variance + good.variance * share / (1.0 - share)
    return math.ceil(variance * (wanted / (worse.mean - good.mean)) ** 2)
