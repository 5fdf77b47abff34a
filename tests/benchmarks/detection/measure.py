"""Measures the detection delay of a rule, and the mean number of answers between its false alarms."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import NormalDist
from typing import Final, Literal

from tests.benchmarks.detection.rules import Experiment, PoiseDetectors, Rule, Threshold, planned
from tests.benchmarks.detection.scored import Steering
from tests.benchmarks.detection.traffic import CANARY, KINDS, USUAL, WORSE, Traffic

Kind = Literal["poise", "threshold", "A/B", "A/B, with peeking"]
RULES: Final[tuple[Kind, ...]] = ("poise", "threshold", "A/B", "A/B, with peeking")
PATIENCE: Final = 10_000
"""Answers of the canary after which a measurement ends without an alarm."""


@dataclass(frozen=True, slots=True)
class DetectionCase:
    """One measurement of one rule with one seed."""

    kind: Kind
    steering: Steering
    share: float
    """The canary's share of the draws."""
    seed: int
    quiet: int
    """The setting `mean_answers_between_false_alarms`."""
    good: int = 0
    """Answers of the canary before it becomes worse."""
    answers: int = 0
    """Answers of a sequence without a change."""
    traffic: str = "constant"

    def rule(self) -> Rule:
        """Create the rule."""
        usual, worse = self.steering.mixed(USUAL), self.steering.mixed(WORSE)
        made: dict[Kind, Callable[[], Rule]] = {
            "poise": lambda: PoiseDetectors(self.quiet),
            "threshold": lambda: Threshold((usual.mean + worse.mean) / 2),
            "A/B": lambda: Experiment(planned(usual, worse, self.share), peeked=False),
            "A/B, with peeking": lambda: Experiment(planned(usual, worse, self.share), peeked=True),
        }
        return made[self.kind]()


def noticed(case: DetectionCase) -> int:
    """Return the canary's answers from its change until an alarm for it; earlier alarms are false."""
    rule = case.rule()
    traffic = Traffic(lambda _: case.share, good=case.good, scored=case.steering.scored)
    since = -case.good
    for answer in traffic.answers(case.seed):
        since += answer.variant == CANARY
        found = rule.update(answer)
        if since > 0 and (found == CANARY or since >= PATIENCE):
            break
    return since


def alarms(case: DetectionCase) -> int:
    """Return the number of false alarms in a sequence without a change."""
    rule = case.rule()
    kind = KINDS[case.traffic](case.share)
    traffic = Traffic(kind.share, wrong=kind.wrong, takes=kind.takes, scored=case.steering.scored)
    return sum(rule.update(answer) is not None for answer in islice(traffic.answers(case.seed), case.answers))


@dataclass(slots=True)
class FalseAlarmCount:
    """The false alarms of several sequences without a change."""

    answers: int = 0
    alarms: int = 0

    @property
    def between(self) -> float:
        """Return the mean number of answers between alarms; all of them if there is none."""
        return self.answers / max(1, self.alarms)

    @property
    def interval(self) -> tuple[float, float]:
        """Return its 95 % interval, for a Poisson count (Garwood, 1936; chi-squared by Wilson and Hilferty)."""
        low, high = poisson(self.alarms)
        return self.answers / high, self.answers / low if low else float("inf")


def poisson(number: int) -> tuple[float, float]:
    """Return the 95 % interval of the expectation of a Poisson count."""
    z = NormalDist().inv_cdf(0.975)

    def chi(degrees: int, deviation: float) -> float:
        part = 2.0 / (9.0 * degrees)
        return float(degrees * (1.0 - part + deviation * part**0.5) ** 3)

    return (chi(2 * number, -z) / 2 if number else 0.0), chi(2 * number + 2, z) / 2


def quartiles(values: Sequence[int]) -> tuple[float, float, float]:
    """Return lower quartile, median and upper quartile (linear interpolation)."""
    ordered = sorted(values)

    def at(share: float) -> float:
        place = share * (len(ordered) - 1)
        low = int(place)
        high = min(low + 1, len(ordered) - 1)
        return ordered[low] + (place - low) * (ordered[high] - ordered[low])

    return at(0.25), at(0.5), at(0.75)
