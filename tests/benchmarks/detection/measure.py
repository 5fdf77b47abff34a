"""Measuring: how many answers a rule needs to notice, and how many quiet ones pass between its false alarms."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import NormalDist
from typing import Final, Literal

from tests.benchmarks.detection.rules import Experiment, Ours, Rule, Threshold, planned
from tests.benchmarks.detection.scored import Steering
from tests.benchmarks.detection.traffic import CANARY, KINDS, USUAL, WORSE, Traffic

Kind = Literal["ours", "threshold", "A/B", "A/B, peeked at"]
RULES: Final[tuple[Kind, ...]] = ("ours", "threshold", "A/B", "A/B, peeked at")
PATIENCE: Final = 10_000
"""Answers of the canary after which nobody waits any longer."""


@dataclass(frozen=True, slots=True)
class Case:
    """What is measured of one rule, with one seed."""

    kind: Kind
    steering: Steering
    share: float
    """Of the draws, those of the canary."""
    seed: int
    quiet: int
    """What is set: quiet answers between false alarms."""
    good: int = 0
    """Answers of the canary before it becomes worse."""
    answers: int = 0
    """Of a quiet stretch."""
    traffic: str = "constant"

    def rule(self) -> Rule:
        """The rule, new."""
        usual, worse = self.steering.mixed(USUAL), self.steering.mixed(WORSE)
        made: dict[Kind, Callable[[], Rule]] = {
            "ours": lambda: Ours(self.quiet),
            "threshold": lambda: Threshold((usual.mean + worse.mean) / 2),
            "A/B": lambda: Experiment(planned(usual, worse, self.share), peeked=False),
            "A/B, peeked at": lambda: Experiment(planned(usual, worse, self.share), peeked=True),
        }
        return made[self.kind]()


def noticed(case: Case) -> int:
    """Answers of the canary from when it became worse until an alarm for it; alarms before that are false."""
    rule = case.rule()
    traffic = Traffic(lambda _: case.share, good=case.good, scored=case.steering.scored)
    since = -case.good
    for answer in traffic.answers(case.seed):
        since += answer.variant == CANARY
        found = rule.update(answer)
        if since > 0 and (found == CANARY or since >= PATIENCE):
            break
    return since


def alarms(case: Case) -> int:
    """False alarms of a quiet stretch."""
    rule = case.rule()
    kind = KINDS[case.traffic](case.share)
    traffic = Traffic(kind.share, wrong=kind.wrong, takes=kind.takes, scored=case.steering.scored)
    return sum(rule.update(answer) is not None for answer in islice(traffic.answers(case.seed), case.answers))


@dataclass(slots=True)
class Quiet:
    """Quiet stretches, put together."""

    answers: int = 0
    alarms: int = 0

    @property
    def between(self) -> float:
        """Quiet answers between alarms; before the first, all of them."""
        return self.answers / max(1, self.alarms)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of that, as of a Poisson count (Garwood, 1936; chi-squared by Wilson and Hilferty)."""
        low, high = poisson(self.alarms)
        return self.answers / high, self.answers / low if low else float("inf")


def poisson(number: int) -> tuple[float, float]:
    """The 95 % interval of the expectation of a Poisson count."""
    z = NormalDist().inv_cdf(0.975)

    def chi(degrees: int, deviation: float) -> float:
        part = 2.0 / (9.0 * degrees)
        return float(degrees * (1.0 - part + deviation * part**0.5) ** 3)

    return (chi(2 * number, -z) / 2 if number else 0.0), chi(2 * number + 2, z) / 2


def quartiles(values: Sequence[int]) -> tuple[float, float, float]:
    """Lower quartile, median, upper quartile (linear interpolation)."""
    ordered = sorted(values)

    def at(share: float) -> float:
        place = share * (len(ordered) - 1)
        low = int(place)
        high = min(low + 1, len(ordered) - 1)
        return ordered[low] + (place - low) * (ordered[high] - ordered[low])

    return at(0.25), at(0.5), at(0.75)
