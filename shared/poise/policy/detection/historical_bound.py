"""Level: how bad a variant's answers were up to now, at most."""

import math
from collections.abc import Callable, Sequence
from typing import Any, Final, Self

from poise.policy.detection.counts import Totals

WINDOW: Final = 5_000.0
"""Answers after which the past is begun anew; until the new one has as many, the old one counts."""
TUNED_ANSWERS: Final = 2_500.0
"""Answers for which the bound is tightest."""
MIN_ANSWERS: Final = 100.0
"""Answers before a past counts."""
MAX_QUESTIONS: Final = 200
"""Questions of which it is known how often they were asked."""
DIGEST_CHARACTERS: Final = 16
"""Characters of a question's digest."""


class EmpiricalBernsteinBound:
    """An upper bound of a mean, which holds at all times together, of values of 0 to 1.

    The predictable plug-in empirical Bernstein confidence sequence, one-sided (Waudby-Smith and Ramdas: "Estimating
    means of bounded random variables by betting", 2024, theorem 2); the least bound up to now.
    """

    __slots__ = ("_bets", "_loss", "_spread", "_wins", "begun", "count", "sum", "upper")

    def __init__(self, begun: Totals) -> None:
        self.begun = begun
        """What was counted before it, of all variants."""
        self.count = 0.0
        self.sum = 0.0
        self.upper = 1.0
        self._spread = 0.25
        self._bets = 0.0
        self._wins = 0.0
        self._loss = 0.0

    @property
    def mean(self) -> float:
        """Of what was counted; 0.5 before anything was."""
        return (self.sum + 0.5) / (self.count + 1.0)

    def add(self, value: float, weight: float, doubt: float) -> None:
        """Take in a value.

        Args:
            value: 0 to 1.
            weight: How much it counts, 0 to 1.
            doubt: log(1/α), where α is the probability that the bound ever fails.
        """
        scale = self.count + 1.0
        off = (value - (self.sum + 0.5) / scale) ** 2
        bet = weight * min(0.5, math.sqrt(2.0 * doubt * scale / (self._spread * TUNED_ANSWERS)))
        self._bets += bet
        self._wins += bet * value
        self._loss += off * (-math.log1p(-bet) - bet)
        self.count += weight
        self.sum += weight * value
        self._spread += weight * off
        self.upper = min(self.upper, (self._wins + doubt + self._loss) / self._bets)

    def snapshot(self) -> list[Any]:
        """As JSON has it."""
        numbers = [self.count, self.sum, self.upper, self._spread, self._bets, self._wins, self._loss]
        return [list(self.begun), *numbers]

    @classmethod
    def restore(cls, kept: Sequence[Any]) -> Self:
        """Go on from a snapshot."""
        bound = cls(tuple(kept[0]))
        bound.count, bound.sum, bound.upper, bound._spread, bound._bets, bound._wins, bound._loss = kept[1:]
        return bound


class HistoricalBound:
    """The past of one variant: a bound over its last 5,000 to 10,000 answers.

    It is begun anew now and then, so that what was long ago does not count for ever. Repeats of a question count 1/k:
    the k-th answer to it tells less than the first to another.
    """

    def __init__(self, begun: Totals) -> None:
        self._old = EmpiricalBernsteinBound(begun)
        self._young: EmpiricalBernsteinBound | None = None
        self._asked: dict[str, int] = {}

    @property
    def warm(self) -> bool:
        """Whether there is enough of it."""
        return self._old.count >= MIN_ANSWERS

    @property
    def upper(self) -> float:
        """What its mean is at most."""
        return self._old.upper

    @property
    def mean(self) -> float:
        """Of the past, as it is known."""
        return self._old.mean

    @property
    def begun(self) -> Totals:
        """What was counted before the past began, of all variants."""
        return self._old.begun

    def weight(self, question: str | None) -> float:
        """How much the next answer to a question counts."""
        if question is None:
            return 1.0
        times = self._asked.pop(question[:DIGEST_CHARACTERS], 0) + 1
        self._asked[question[:DIGEST_CHARACTERS]] = times
        if len(self._asked) > MAX_QUESTIONS:
            del self._asked[next(iter(self._asked))]
        return 1.0 / times

    def add(self, value: float, weight: float, doubt: float, mark: Callable[[], Totals]) -> None:
        """Take in an answer, as a bound does; the mark is of what was counted before it."""
        old = self._old
        old.add(value, weight, doubt)
        if old.count > WINDOW:
            if self._young is None:
                self._young = EmpiricalBernsteinBound(mark())
            young = self._young
            young.add(value, weight, doubt)
            if young.count >= WINDOW:
                self._old, self._young = young, None

    def snapshot(self) -> list[Any]:
        """As JSON has it."""
        young = None if self._young is None else self._young.snapshot()
        return [self._old.snapshot(), young, [list(asked) for asked in self._asked.items()]]

    @classmethod
    def restore(cls, kept: Sequence[Any]) -> Self:
        """Go on from a snapshot."""
        old, young, asked = kept
        level = cls(())
        level._old = EmpiricalBernsteinBound.restore(old)
        level._young = None if young is None else EmpiricalBernsteinBound.restore(young)
        level._asked = dict(asked)
        return level
