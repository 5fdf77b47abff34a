"""Fits the coefficients of `poise.scoring.quality` by logistic regression on labeled and on edited answers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from poise.scoring import Embed, Evidence, compare_by_meaning, groundedness, quality_features, relevance
from poise.scoring.quality import LEXICAL, Coefficients, Features
from tests.benchmarks.scores.labeled import LabeledAnswer, passages

RIDGE: Final = 1.0
"""The penalty on squared coefficients, which limits those based on few answers (Hoerl and Kennard, 1970)."""
STEPS: Final = 50
FOLDS: Final = 10
SEED: Final = 3

EDITS_COUNT: Final = 0.3
"""The weight of an edited answer relative to a labeled one. The small model rarely writes a wrong number or name in an
otherwise right answer; other models do."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class TrainingExample:
    """An answer to fit on, with its weight."""

    case: LabeledAnswer
    found: Features
    counts: float = 1.0


def training_examples(
    cases: Sequence[LabeledAnswer], values: Sequence[dict[str, float]], counts: float, embed: Embed | None
) -> list[TrainingExample]:
    """Return the usable answers with their features; without `embed`, those of a lexical fit."""
    return [TrainingExample(cases[at], features_of(cases[at], embed), counts) for at in usable(values)]


def features_of(case: LabeledAnswer, embed: Embed | None) -> Features:
    """Return the features from which evaluation estimates quality."""
    text, evidence = case.text.strip(), _evidence(case.ask)
    return quality_features(
        text,
        groundedness(text, evidence, question=case.ask),
        relevance(text, evidence, case.ask),
        None if embed is None else compare_by_meaning(text, evidence, case.ask, embed),
    )


@cache
def _evidence(ask: str) -> Evidence:
    return Evidence(passages()[ask])


def usable(values: Sequence[dict[str, float]]) -> list[int]:
    """Return the indices of the answers whose quality is estimated; degenerate answers always have 0."""
    flaws = ("empty", "degenerate", "truncated", "refused")
    return [at for at, found in enumerate(values) if "quality" in found and not any(found[name] for name in flaws)]


def fit(examples: Sequence[TrainingExample], like: Coefficients = LEXICAL) -> Coefficients:
    """Fit the nonzero coefficients of `like` to these answers by Newton's method."""
    names = [name for name in Features._fields if getattr(like, name)]
    columns = np.array([[1.0, *(getattr(one.found, name) for name in names)] for one in examples])
    right = np.array([float(one.case.right) for one in examples])
    counts = np.array([one.counts for one in examples])
    penalty = RIDGE * np.diag([0.0, *[1.0] * len(names)])
    weights: Floats = np.zeros(columns.shape[1])
    for _ in range(STEPS):
        likely = 1 / (1 + np.exp(-columns @ weights))
        curvature = columns.T @ (columns * (counts * likely * (1 - likely))[:, None]) + penalty
        weights = weights + np.linalg.solve(curvature, columns.T @ (counts * (right - likely)) - penalty @ weights)
    rounded = [round(float(weight), 3) for weight in weights]
    return Coefficients(rounded[0], **dict(zip(names, rounded[1:], strict=True)))


def held_out(examples: Sequence[TrainingExample], like: Coefficients = LEXICAL) -> Callable[[str], Coefficients]:
    """Return, by question, the coefficients fitted on the answers to other questions."""
    questions = sorted({one.case.ask for one in examples})
    order = np.random.default_rng(SEED).permutation(len(questions))
    fold = {questions[place]: number % FOLDS for number, place in enumerate(order)}
    by_fold = [fit([one for one in examples if fold[one.case.ask] != number], like) for number in range(FOLDS)]
    return lambda ask: by_fold[fold[ask]]


def qualities(
    cases: Sequence[LabeledAnswer],
    values: Sequence[dict[str, float]],
    of: Callable[[str], Coefficients],
    embed: Embed | None = None,
) -> list[float]:
    """Return the quality of each answer by coefficients that depend on the question."""
    found = [0.0] * len(cases)
    for at in usable(values):
        found[at] = of(cases[at].ask)(features_of(cases[at], embed))
    return found
