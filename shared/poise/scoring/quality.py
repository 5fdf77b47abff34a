"""Quality: how likely an answer is right, told from what its passages bear of it.

A logistic regression (Platt, "Probabilistic Outputs for Support Vector Machines", 1999, calibrates so) on how grounded
an answer is, how relevant, and how long: a small model that goes on at length is making things up. It was fitted on
answers of the built-in model that were judged one by one, and at less weight on edited sentences of a reference;
`make bench-scores` tries it on questions that it was not fitted on. For another model it is likelihood only roughly.
"""

import math
from typing import Final, NamedTuple

from poise.scoring.text import words


class Coefficients(NamedTuple):
    """What each feature weighs, in log odds."""

    base: float
    grounded: float
    """By groundedness, 0 to 1."""
    relevant: float
    """By relevance, 0 to 1."""
    length: float
    """By the logarithm of one more than the words."""

    def __call__(self, grounded: float, relevant: float, length: float) -> float:
        """How likely it is right, 0 to 1."""
        told = self.base + self.grounded * grounded + self.relevant * relevant + self.length * length
        return 1 / (1 + math.exp(-told))


FITTED: Final = Coefficients(1.046, 1.352, 1.032, -1.048)
"""By `python -m tests.benchmarks.scores --fit`, on 431 judged answers and 682 edited ones."""


def log_words(answer: str) -> float:
    """An answer's length as quality has it."""
    return math.log1p(len(words(answer)))


def quality(answer: str, grounded: float, relevant: float) -> float:
    """How likely an answer is right, 0 to 1.

    Args:
        answer: Its words; whether they are an answer at all is not asked here.
        grounded: Its groundedness.
        relevant: Its relevance.
    """
    return FITTED(grounded, relevant, log_words(answer))
