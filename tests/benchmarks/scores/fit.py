"""Fit: the coefficients of `poise.scoring.quality`, by logistic regression on the answers that a person judged."""

from collections.abc import Sequence
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

Floats = NDArray[np.float64]


def usable(values: Sequence[dict[str, float]]) -> list[int]:
    """Those that quality is worked out for: what is no answer has 0 by rule."""
    flaws = ("empty", "degenerate", "truncated", "refused")
    return [at for at, found in enumerate(values) if "quality" in found and not any(found[name] for name in flaws)]


def fit(cases: Sequence[Case], values: Sequence[dict[str, float]]) -> Coefficients:
    """The coefficients for these answers, by Newton's method."""
    told = np.array([[1.0, *_features(case, found)] for case, found in zip(cases, values, strict=True)])
    right = np.array([float(case.right) for case in cases])
    penalty = RIDGE * np.diag([0.0, *[1.0] * (told.shape[1] - 1)])
    weights: Floats = np.zeros(told.shape[1])
    for _ in range(STEPS):
        likely = 1 / (1 + np.exp(-told @ weights))
        curvature = told.T @ (told * (likely * (1 - likely))[:, None]) + penalty
        weights = weights + np.linalg.solve(curvature, told.T @ (right - likely) - penalty @ weights)
    return Coefficients(*(round(float(weight), 3) for weight in weights))


def held_out(cases: Sequence[Case], values: Sequence[dict[str, float]]) -> list[float]:
    """The quality of each by coefficients that were fitted on the answers to other questions."""
    questions = sorted({case.ask for case in cases})
    order = np.random.default_rng(SEED).permutation(len(questions))
    fold = {questions[place]: number % FOLDS for number, place in enumerate(order)}
    usables = usable(values)
    found = [0.0] * len(cases)
    for number in range(FOLDS):
        seen = [at for at in usables if fold[cases[at].ask] != number]
        coefficients = fit([cases[at] for at in seen], [values[at] for at in seen])
        for at in usables:
            if fold[cases[at].ask] == number:
                found[at] = coefficients(*_features(cases[at], values[at]))
    return found


def _features(case: Case, found: dict[str, float]) -> tuple[float, float, float]:
    return found["raw_groundedness"], found["raw_relevance"], log_words(case.text)
