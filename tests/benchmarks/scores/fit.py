"""Fit: the coefficients of `poise.scoring.quality`, by logistic regression on judged and on edited answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from poise.scoring.quality import Coefficients, log_words
from tests.benchmarks.scores.labelled import Case

RIDGE: Final = 1.0
"""The penalty on squared coefficients: it keeps those of few answers small (Hoerl and Kennard, 1970)."""
STEPS: Final = 50
FOLDS: Final = 10
SEED: Final = 3

EDITS_COUNT: Final = 0.3
"""How much an edited answer counts beside a judged one: the small model seldom gets a number or a name wrong in an
answer that is right otherwise, and other models do."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Told:
    """An answer to fit on."""

    case: Case
    values: dict[str, float]
    counts: float = 1.0


def usable(values: Sequence[dict[str, float]]) -> list[int]:
    """Those that quality is worked out for: what is no answer has 0 by rule."""
    flaws = ("empty", "degenerate", "truncated", "refused")
    return [at for at, found in enumerate(values) if "quality" in found and not any(found[name] for name in flaws)]


def fit(told: Sequence[Told]) -> Coefficients:
    """The coefficients for these answers, by Newton's method."""
    features = np.array([[1.0, *_features(one)] for one in told])
    right = np.array([float(one.case.right) for one in told])
    counts = np.array([one.counts for one in told])
    penalty = RIDGE * np.diag([0.0, *[1.0] * (features.shape[1] - 1)])
    weights: Floats = np.zeros(features.shape[1])
    for _ in range(STEPS):
        likely = 1 / (1 + np.exp(-features @ weights))
        curvature = features.T @ (features * (counts * likely * (1 - likely))[:, None]) + penalty
        weights = weights + np.linalg.solve(curvature, features.T @ (counts * (right - likely)) - penalty @ weights)
    return Coefficients(*(round(float(weight), 3) for weight in weights))


def held_out(cases: Sequence[Case], values: Sequence[dict[str, float]], told: Sequence[Told]) -> list[float]:
    """The quality of each by coefficients that were fitted on the answers to other questions."""
    questions = sorted({one.case.ask for one in told})
    order = np.random.default_rng(SEED).permutation(len(questions))
    fold = {questions[place]: number % FOLDS for number, place in enumerate(order)}
    by_fold = [fit([one for one in told if fold[one.case.ask] != number]) for number in range(FOLDS)]
    found = [0.0] * len(cases)
    for at in usable(values):
        one = Told(cases[at], values[at])
        found[at] = by_fold[fold[one.case.ask]](*_features(one))
    return found


def _features(one: Told) -> tuple[float, float, float]:
    return one.values["raw_groundedness"], one.values["raw_relevance"], log_words(one.case.text)
