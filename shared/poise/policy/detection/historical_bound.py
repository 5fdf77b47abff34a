"""The historical bound: an upper bound of a variant's mean loss up to now."""

import math
from collections.abc import Callable, Sequence
from typing import Any, Final, Self

from poise.policy.detection.counts import Totals

WINDOW: Final = 5_000.0
"""Answers after which a new history starts; the old one counts until the new one has as many."""
TUNED_ANSWERS: Final = 2_500.0
"""Answers for which the bound is tightest."""
MIN_ANSWERS: Final = 100.0
"""Answers before a history counts."""
MAX_QUESTIONS: Final = 200
"""Questions whose number of repeats is remembered."""
DIGEST_CHARACTERS: Final = 16
"""Characters of a question's digest."""


class EmpiricalBernsteinBound:
    """An upper bound of the mean of values of 0 to 1, which holds at all times simultaneously.

    The predictable plug-in empirical Bernstein confidence sequence, one-sided (Waudby-Smith and Ramdas: "Estimating
    means of bounded random variables by betting", 2024, theorem 2); the lowest bound up to now.
    """

    __slots__ = ("_bets", "_loss", "_spread", "_wins", "count", "initial_totals", "sum", "upper")

    def __init__(self, initial_totals: Totals) -> None:
        self.initial_totals = initial_totals
        """The totals of all variants before it."""
        self.count = 0.0
        self.sum = 0.0
        self.upper = 1.0
        self._spread = 0.25
        self._bets = 0.0
        self._wins = 0.0
        self._loss = 0.0

    @property
    def mean(self) -> float:
        """The mean; 0.5 before the first value."""
        return (self.sum + 0.5) / (self.count + 1.0)

    def add(self, value: float, weight: float, log_inverse_alpha: float) -> None:
        """Add a value.

        Args:
            value: 0 to 1.
            weight: How much it counts, 0 to 1.
            log_inverse_alpha: log(1/α), where α is the probability that the bound ever fails.
        """
        scale = self.count + 1.0
        off = (value - (self.sum + 0.5) / scale) ** 2
        bet = weight * min(0.5, math.sqrt(2.0 * log_inverse_alpha * scale / (self._spread * TUNED_ANSWERS)))
        self._bets += bet
        self._wins += bet * value
        self._loss += off * (-math.log1p(-bet) - bet)
        self.count += weight
        self.sum += weight * value
        self._spread += weight * off
        self.upper = min(self.upper, (self._wins + log_inverse_alpha + self._loss) / self._bets)

    def snapshot(self) -> list[Any]:
        """Return the state as JSON values."""
        numbers = [self.count, self.sum, self.upper, self._spread, self._bets, self._wins, self._loss]
        return [list(self.initial_totals), *numbers]

    @classmethod
    def restore(cls, values: Sequence[Any]) -> Self:
        """Restore a snapshot."""
        bound = cls(tuple(values[0]))
        bound.count, bound.sum, bound.upper, bound._spread, bound._bets, bound._wins, bound._loss = values[1:]
        return bound


class HistoricalBound:
    """The history of one variant: a bound over its last 5,000 to 10,000 answers.

    It restarts from time to time, so that old answers do not count for ever. The k-th answer to a question counts 1/k:
    it says less than the first answer to another question.
    """

    def __init__(self, initial_totals: Totals) -> None:
        self._old = EmpiricalBernsteinBound(initial_totals)
        self._young: EmpiricalBernsteinBound | None = None
        self._asked: dict[str, int] = {}

    @property
    def warm(self) -> bool:
        """Whether the history is long enough to count."""
        return self._old.count >= MIN_ANSWERS

    @property
    def upper(self) -> float:
        """The upper bound of its mean."""
        return self._old.upper

    @property
    def mean(self) -> float:
        """The mean of the history."""
        return self._old.mean

    @property
    def initial_totals(self) -> Totals:
        """The totals of all variants before the history began."""
        return self._old.initial_totals

    def count_question(self, question: str | None) -> float:
        """Count an answer to a question, and return its weight: 1/k for the k-th answer."""
        if question is None:
            return 1.0
        times = self._asked.pop(question[:DIGEST_CHARACTERS], 0) + 1
        self._asked[question[:DIGEST_CHARACTERS]] = times
        if len(self._asked) > MAX_QUESTIONS:
            del self._asked[next(iter(self._asked))]
        return 1.0 / times

    def add(self, value: float, weight: float, log_inverse_alpha: float, mark: Callable[[], Totals]) -> None:
        """Add an answer, as a bound does; `mark` returns the totals before it."""
        old = self._old
        old.add(value, weight, log_inverse_alpha)
        if old.count > WINDOW:
            if self._young is None:
                self._young = EmpiricalBernsteinBound(mark())
            young = self._young
            young.add(value, weight, log_inverse_alpha)
            if young.count >= WINDOW:
                self._old, self._young = young, None

    def snapshot(self) -> list[Any]:
        """Return the state as JSON values."""
        young = None if self._young is None else self._young.snapshot()
        return [self._old.snapshot(), young, [list(asked) for asked in self._asked.items()]]

    @classmethod
    def restore(cls, values: Sequence[Any]) -> Self:
        """Restore a snapshot."""
        old, young, asked = values
        bound = cls(())
        bound._old = EmpiricalBernsteinBound.restore(old)
        bound._young = None if young is None else EmpiricalBernsteinBound.restore(young)
        bound._asked = dict(asked)
        return bound
