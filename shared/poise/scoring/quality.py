"""Quality: the probability that an answer is right, from its support by the passages.

It is a logistic regression (calibration as in Platt, "Probabilistic Outputs for Support Vector Machines", 1999) on the
answer's groundedness, relevance, unsupported facts, contradictions and length: a small model makes things up in long
answers. Facts and contradictions also lower groundedness; they are features too, because otherwise a paraphrase would
score below a quotation with an inserted `not`. The regression was fitted on answers of the built-in model that were
judged one by one and, at a lower weight, on edited sentences of a reference; `make bench-scores` evaluates it on
held-out questions. For other models, the probability is approximate.

With semantic comparison, similarity replaces groundedness, which scores paraphrases as wrong. Vectors reflect neither
names nor negations, so these remain features.
"""

import math
from typing import Final, NamedTuple

from poise.scoring.groundedness import Groundedness
from poise.scoring.semantic import SemanticComparison
from poise.scoring.tokenization import words


class Features(NamedTuple):
    """The features of quality."""

    grounded: float
    """Groundedness, 0 to 1."""
    relevant: float
    """Relevance, 0 to 1."""
    length: float
    """The logarithm of the number of words plus one."""
    unknown: float
    """Whether the answer has unsupported facts, 0 or 1."""
    turned: float
    """The lexical support of a sentence by one that says the opposite, 0 to 1."""
    near: float
    """The semantic similarity to the passages, -1 to 1."""
    denied: float
    """The semantic similarity of a sentence to one that says the opposite, 0 to 1."""


class Coefficients(NamedTuple):
    """The coefficients of the features, in log odds; 0 = not used."""

    base: float = 0.0
    grounded: float = 0.0
    relevant: float = 0.0
    length: float = 0.0
    unknown: float = 0.0
    turned: float = 0.0
    near: float = 0.0
    denied: float = 0.0

    def __call__(self, found: Features) -> float:
        """Return the probability that the answer is right, 0 to 1."""
        log_odds = self.base + sum(weight * value for weight, value in zip(self[1:], found, strict=True))
        return 1 / (1 + math.exp(-log_odds))


LEXICAL: Final = Coefficients(base=1.341, grounded=0.993, relevant=1.156, length=-1.035, unknown=-0.719, turned=-1.155)
"""Fitted by `python -m tests.benchmarks.scores --fit`, on 431 judged answers and 682 edited ones."""
SEMANTIC: Final = Coefficients(
    base=0.668, relevant=1.425, length=-1.077, unknown=-0.995, turned=-0.593, near=1.672, denied=-0.981
)
"""Fitted in the same way, with `--embedding`."""


def quality_features(
    answer: str, grounded: Groundedness, relevant: float, compared: SemanticComparison | None = None
) -> Features:
    """Return the features; without a semantic comparison, `near` and `denied` are 0 and must not be used."""
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
    """Return the probability that an answer is right, 0 to 1.

    Args:
        answer: The text; degenerate output is not detected here.
        grounded: Its groundedness.
        relevant: Its relevance.
        compared: Its semantic comparison; None = lexical features only.
    """
    fitted = LEXICAL if compared is None else SEMANTIC
    return fitted(quality_features(answer, grounded, relevant, compared))
