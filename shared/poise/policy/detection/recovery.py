"""Recovery: whether a variant that was in trouble is again no worse than it may be."""

from collections.abc import Sequence
from typing import Any, Final, Self

from poise.contracts.policy import About
from poise.policy.detection.bets import BETS
from poise.policy.detection.tally import Totals

SHOWN: Final = 20.0
"""What the e-process must reach: 1/0.05, the level of the test over the whole time that it is watched."""
FRESH: Final = 50
"""Answers of the variant after which some more capital is put in."""


class Proof:
    """An e-process of bets against "still in trouble" (Waudby-Smith and Ramdas, 2024), which starts again and again.

    The j-th start, every 50 answers, gets 1/(j·(j+1)) of the capital: one that was bad for long can yet be shown to
    have recovered, and all starts together are wrong with a probability of 5 % at most (Ville's inequality).
    """

    __slots__ = ("_answers", "_money", "_starts")

    def __init__(self) -> None:
        self._money = [0.0] * len(BETS)
        self._answers = 0
        self._starts = 0

    def bet(self, z: float, *, own: bool) -> None:
        """Take in an answer: z is -1 or more, zero or less on average while the trouble lasts."""
        if self._starts == 0 or (own and self._answers % FRESH == 0):
            self._starts += 1
            share = 1.0 / (self._starts * (self._starts + 1))
            self._money = [m + share for m in self._money]
        self._answers += own
        self._money = [m * (1.0 + b * z) for m, b in zip(self._money, BETS, strict=True)]

    @property
    def value(self) -> float:
        """The e-process, with the capital that is yet to be bet."""
        return sum(self._money) / len(BETS) + 1.0 / (self._starts + 1)

    def snapshot(self) -> list[Any]:
        """As JSON has it."""
        return [self._money, self._answers, self._starts]

    @classmethod
    def restore(cls, kept: Sequence[Any]) -> Self:
        """Go on from a snapshot."""
        proof = cls()
        money, proof._answers, proof._starts = kept
        proof._money = list(money)
        return proof


class Recovery:
    """A variant that is watched: what it is to be shown of, and how far that is.

    Args:
        about: What it was in trouble with.
        at: When it began to be watched.
        before: What was counted before.
        past: How bad its answers were before the trouble; None = not known.
        proofs: How many things are to be shown: all of them.
        returning: It has recovered once, and is given weight again: alarms are raised as well.
    """

    __slots__ = ("about", "at", "before", "past", "proofs", "returning")

    def __init__(  # noqa: PLR0913 - what there is to remember
        self,
        about: About,
        at: float,
        before: Totals,
        past: float | None,
        proofs: Sequence[Proof],
        *,
        returning: bool = False,
    ) -> None:
        self.about = about
        self.at = at
        self.before = before
        self.past = past
        self.proofs = list(proofs)
        self.returning = returning

    @property
    def value(self) -> float:
        """The least of what is to be shown."""
        return min(proof.value for proof in self.proofs)

    def snapshot(self) -> list[Any]:
        """As JSON has it."""
        proofs = [proof.snapshot() for proof in self.proofs]
        return [self.about, self.at, list(self.before), self.past, proofs, self.returning]

    @classmethod
    def restore(cls, kept: Sequence[Any]) -> Self:
        """Go on from a snapshot."""
        about, at, before, past, proofs, returning = kept
        restored = [Proof.restore(proof) for proof in proofs]
        return cls(about, at, tuple(before), past, restored, returning=returning)
