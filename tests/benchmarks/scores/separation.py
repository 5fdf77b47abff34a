"""How well a score separates right from wrong answers, and whether it is calibrated."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

POINTS: Final = 21
"""The number of stored quantiles of a score."""
RESAMPLES: Final = 500
SEED: Final = 1
BINS: Final = 8


@dataclass(frozen=True, slots=True)
class Judgment:
    """A score of one answer, and whether the answer is right."""

    question: str
    score: float
    right: bool


@dataclass(frozen=True, slots=True)
class Bin:
    """Answers with similar scores."""

    mean: float
    """The mean of their scores."""
    right: float
    """The share of right answers."""
    count: int


@dataclass(frozen=True, slots=True)
class Separation:
    """The statistics of a score."""

    auc: float
    low: float
    """The ends of the 95 % interval of the AUC, by resampling questions (Efron, 1979; as clusters)."""
    high: float
    threshold: float
    """The threshold with the highest sum of sensitivity and specificity (Youden, 1950); below it counts as wrong."""
    sensitivity: float
    """The share of the wrong answers below the threshold."""
    specificity: float
    """The share of the right answers at or above the threshold."""
    right: int
    wrong: int
    good: tuple[float, ...]
    """Quantiles of the right answers' scores."""
    bad: tuple[float, ...]


def auc(good: Sequence[float], bad: Sequence[float]) -> float:
    """Return the probability that a right answer scores above a wrong one (Mann and Whitney, 1947); ties count half."""
    order = sorted([(score, True) for score in good] + [(score, False) for score in bad])
    wins, below, at = 0.0, 0, 0
    while at < len(order):
        tied = [right for score, right in order[at:] if score == order[at][0]]
        wins += sum(tied) * (below + (len(tied) - sum(tied)) / 2)
        below += len(tied) - sum(tied)
        at += len(tied)
    return wins / (len(good) * len(bad)) if good and bad else float("nan")


def separation(judgments: Sequence[Judgment]) -> Separation:
    """Return the statistics of one score."""
    good = sorted(one.score for one in judgments if one.right)
    bad = sorted(one.score for one in judgments if not one.right)
    low, high = _interval(judgments)
    threshold = max(sorted({*good, *bad}), key=lambda at: _below(bad, at) - _below(good, at))
    return Separation(
        auc=auc(good, bad),
        low=low,
        high=high,
        threshold=threshold,
        sensitivity=_below(bad, threshold),
        specificity=1 - _below(good, threshold),
        right=len(good),
        wrong=len(bad),
        good=quantiles(good),
        bad=quantiles(bad),
    )


def quantiles(ordered: Sequence[float]) -> tuple[float, ...]:
    """Return evenly spaced quantiles from the minimum to the maximum (linear interpolation)."""
    places = [(len(ordered) - 1) * point / (POINTS - 1) for point in range(POINTS)]
    found = []
    for place in places:
        first = int(place)
        second = min(first + 1, len(ordered) - 1)
        found.append(ordered[first] + (place - first) * (ordered[second] - ordered[first]))
    return tuple(found)


def reliability(judgments: Sequence[Judgment], bins: int = BINS) -> list[Bin]:
    """Group answers by score into bins of similar size; equal scores stay together."""
    ordered = sorted(judgments, key=lambda one: one.score)
    groups: list[list[Judgment]] = [[]]
    for one in ordered:
        if len(groups[-1]) >= len(ordered) / bins and one.score > groups[-1][-1].score:
            groups.append([])
        groups[-1].append(one)
    return [
        Bin(sum(one.score for one in group) / len(group), sum(one.right for one in group) / len(group), len(group))
        for group in groups
    ]


def calibration_error(bins: Sequence[Bin]) -> float:
    """Return the expected calibration error (Naeini, Cooper and Hauskrecht, 2015) over bins of equal size."""
    return sum(one.count * abs(one.mean - one.right) for one in bins) / sum(one.count for one in bins)


def _below(ordered: Sequence[float], threshold: float) -> float:
    return sum(score < threshold for score in ordered) / len(ordered)


def _interval(judgments: Sequence[Judgment]) -> tuple[float, float]:
    by_question: Mapping[str, list[Judgment]] = {one.question: [] for one in judgments}
    for one in judgments:
        by_question[one.question].append(one)
    dice, questions, found = random.Random(SEED), list(by_question), list[float]()
    for _ in range(RESAMPLES):
        drawn = [one for question in dice.choices(questions, k=len(questions)) for one in by_question[question]]
        good, bad = [one.score for one in drawn if one.right], [one.score for one in drawn if not one.right]
        if good and bad:
            found.append(auc(good, bad))
    found.sort()
    return found[int(0.025 * len(found))], found[int(0.975 * len(found))]
