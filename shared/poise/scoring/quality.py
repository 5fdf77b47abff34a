"""Quality: how likely an answer is right, told from what its passages bear of it.

A logistic regression (Platt, "Probabilistic Outputs for Support Vector Machines", 1999, calibrates so) on how grounded
an answer is, how relevant, whether it names what is not borne or denies what is said, and how long: a small model that
goes on at length is making things up. Names and denials lower groundedness too; here they also count by themselves, or
words of one's own would be held for worse than a quotation with a `not` put in. It was fitted on answers of the
built-in model that were judged one by one, and at less weight on edited sentences of a reference; `make bench-scores`
tries it on questions that it was not fitted on. For another model it is likelihood only roughly.

Where sentences are compared by meaning, how near they stand takes the place of groundedness, which has words of one's
own for wrong; vectors see neither names nor denials, which count by themselves there too.
"""

import math
from typing import Final, NamedTuple

from poise.scoring.groundedness import Groundedness
from poise.scoring.semantic import SemanticComparison
from poise.scoring.tokenization import words


class Features(NamedTuple):
    """What quality is told from."""

    grounded: float
    """Groundedness, 0 to 1."""
    relevant: float
    """Relevance, 0 to 1."""
    length: float
    """The logarithm of one more than the words."""
    unknown: float
    """Whether it names what the passages do not bear, 0 or 1."""
    turned: float
    """How much of a sentence is borne word for word by one that says the opposite, 0 to 1."""
    near: float
    """How near it stands to the passages by meaning, -1 to 1."""
    denied: float
    """How near a sentence stands by meaning to one that says the opposite, 0 to 1."""


class Coefficients(NamedTuple):
    """What each feature weighs, in log odds; 0 where it does not count."""

    base: float = 0.0
    grounded: float = 0.0
    relevant: float = 0.0
    length: float = 0.0
    unknown: float = 0.0
    turned: float = 0.0
    near: float = 0.0
    denied: float = 0.0

    def __call__(self, found: Features) -> float:
        """How likely it is right, 0 to 1."""
        told = self.base + sum(weight * value for weight, value in zip(self[1:], found, strict=True))
        return 1 / (1 + math.exp(-told))


LEXICAL: Final = Coefficients(base=1.341, grounded=0.993, relevant=1.156, length=-1.035, unknown=-0.719, turned=-1.155)
"""By `python -m tests.benchmarks.scores --fit`, on 431 judged answers and 682 edited ones."""
SEMANTIC: Final = Coefficients(
    base=0.668, relevant=1.425, length=-1.077, unknown=-0.995, turned=-0.593, near=1.672, denied=-0.981
)
"""By the same with `--embedding`, on the same."""


def quality_features(
    answer: str, grounded: Groundedness, relevant: float, compared: SemanticComparison | None = None
) -> Features:
    """What quality is told from; without a comparison by meaning, `near` and `denied` are 0 and not to be counted."""
    return Features(
        grounded=grounded.score,
        relevant=relevant,
        length=math.log1p(len(words(answer))),
        unknown=float(bool(grounded.unknown)),
        turned=grounded.turned,
        near=compared.near if compared is not None else 0.0,
        denied=compared.denied if compared is not None else 0.0,
    )


def quality(answer: str, grounded: Groundedness, relevant: float, compared: SemanticComparison | None = None) -> float:
    """How likely an answer is right, 0 to 1.

    Args:
        answer: Its words; whether they are an answer at all is not asked here.
        grounded: Its groundedness.
        relevant: Its relevance.
        compared: How it compares by meaning; None = told by words alone.
    """
    fitted = LEXICAL if compared is None else SEMANTIC
    return fitted(quality_features(answer, grounded, relevant, compared))
