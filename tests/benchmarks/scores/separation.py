"""Separation: how well a score tells good answers from bad ones, and whether it means what it says."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

POINTS: Final = 21
"""Quantiles of a score that are kept, from the least to the most."""
RESAMPLES: Final = 500
SEED: Final = 1
BINS: Final = 8


@dataclass(frozen=True, slots=True)
class Judgement:
    """A score of one answer, and whether the answer is right."""

    question: str
    score: float
    right: bool


@dataclass(frozen=True, slots=True)
class Bin:
    """Answers of about the same score."""

    mean: float
    """Of their scores."""
    right: float
    """Their share that is right."""
    count: int


@dataclass(frozen=True, slots=True)
class Separation:
    """What there is to say of a score."""

    auc: float
    low: float
    """The ends of the 95 % interval of the AUC, by resampling questions (Efron, 1979; as clusters)."""
    high: float
    threshold: float
    """Where sensitivity and specificity together are highest (Youden, 1950): below it is taken for wrong."""
    sensitivity: float
    """The share of the wrong answers that are below."""
    specificity: float
    """The share of the right ones that are not."""
    right: int
    wrong: int
    good: tuple[float, ...]
    """Quantiles of the right answers' scores."""
    bad: tuple[float, ...]


def auc(good: Sequence[float], bad: Sequence[float]) -> float:
    """The chance that a right answer scores above a wrong one (Mann and Whitney, 1947); ties count for half."""
    order = sorted([(score, True) for score in good] + [(score, False) for score in bad])
    wins, below, at = 0.0, 0, 0
    while at < len(order):
        tied = [right for score, right in order[at:] if score == order[at][0]]
        wins += sum(tied) * (below + (len(tied) - sum(tied)) / 2)
        below += len(tied) - sum(tied)
        at += len(tied)
    return wins / (len(good) * len(bad)) if good and bad else float("nan")


def separation(judgements: Sequence[Judgement]) -> Separation:
    """Everything of one score."""
    good = sorted(one.score for one in judgements if one.right)
    bad = sorted(one.score for one in judgements if not one.right)
    low, high = _interval(judgements)
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
    """The least, the most, and what lies evenly between (linear interpolation)."""
    places = [(len(ordered) - 1) * point / (POINTS - 1) for point in range(POINTS)]
    found = []
    for place in places:
        first = int(place)
        second = min(first + 1, len(ordered) - 1)
        found.append(ordered[first] + (place - first) * (ordered[second] - ordered[first]))
    return tuple(found)


def reliability(judgements: Sequence[Judgement], bins: int = BINS) -> list[Bin]:
    """Answers in order of their score, in groups of about the same size; equal scores stay together."""
    ordered = sorted(judgements, key=lambda one: one.score)
    groups: list[list[Judgement]] = [[]]
    for one in ordered:
        if len(groups[-1]) >= len(ordered) / bins and one.score > groups[-1][-1].score:
            groups.append([])
        groups[-1].append(one)
    return [
        Bin(sum(one.score for one in group) / len(group), sum(one.right for one in group) / len(group), len(group))
        for group in groups
    ]


def calibration_error(bins: Sequence[Bin]) -> float:
    """The expected calibration error (Naeini, Cooper and Hauskrecht, 2015), over bins of equal size."""
    return sum(one.count * abs(one.mean - one.right) for one in bins) / sum(one.count for one in bins)


def _below(ordered: Sequence[float], threshold: float) -> float:
    return sum(score < threshold for score in ordered) / len(ordered)


def _interval(judgements: Sequence[Judgement]) -> tuple[float, float]:
    by_question: Mapping[str, list[Judgement]] = {one.question: [] for one in judgements}
    for one in judgements:
        by_question[one.question].append(one)
    dice, questions, found = random.Random(SEED), list(by_question), list[float]()
    for _ in range(RESAMPLES):
        drawn = [one for question in dice.choices(questions, k=len(questions)) for one in by_question[question]]
        good, bad = [one.score for one in drawn if one.right], [one.score for one in drawn if not one.right]
        if good and bad:
            found.append(auc(good, bad))
    found.sort()
    return found[int(0.025 * len(found))], found[int(0.975 * len(found))]
