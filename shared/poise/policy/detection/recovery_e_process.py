"""Recovery: whether a variant that was in trouble is again no worse than it may be."""

from collections.abc import Sequence
from typing import Any, Final, Self

from poise.contracts.policy import Criterion
from poise.policy.detection.counts import Totals
from poise.policy.detection.e_detector import BET_FRACTIONS, CUSUM_FRACTION

RECOVERY_THRESHOLD: Final = 20.0
"""What the e-process must reach: 1/0.05, the level of the test over the whole time that it is watched."""
RESTART_ANSWERS: Final = 50
"""Answers of the variant after which some more capital is put in."""
MAX_WEALTH: Final = 10 * RECOVERY_THRESHOLD
"""What each bet keeps at most, which takes evidence away and adds none. Recovery may be shown for long before it
counts, while a person holds the policy: numbers would overflow, and one that is bad again had all of it to lose."""


class RecoveryEProcess:
    """An e-process of bets against "still in trouble" (Waudby-Smith and Ramdas, 2024), which starts again and again.

    The j-th start, every 50 answers, gets 1/(j·(j+1)) of the capital: one that was bad for long can yet be shown to
    have recovered, and all starts together are wrong with a probability of 5 % at most (Ville's inequality). So it does
    not rest on all answers since the trouble: what is told is those since the recovery most likely began.

    Args:
        at: When it begins, unix seconds.
        before: What was counted before.
    """

    __slots__ = ("_answers", "_cusum", "_starts", "_wealth", "at", "before")

    def __init__(self, at: float, before: Totals) -> None:
        self.at = at
        self.before = before
        """What was counted before CUSUM (Page, 1954) started last, as in `Bets`."""
        self._cusum = 0.0
        self._wealth = [0.0] * len(BET_FRACTIONS)
        self._answers = 0
        self._starts = 0

    def update(self, z: float, *, own: bool) -> bool:
        """Take in an answer; what is returned is whether the recovery most likely begins with it.

        Args:
            z: -1 or more; zero or less on average while the trouble lasts.
            own: It is an answer of the variant itself.
        """
        if self._starts == 0 or (own and self._answers % RESTART_ANSWERS == 0):
            self._starts += 1
            share = 1.0 / (self._starts * (self._starts + 1))
            self._wealth = [m + share for m in self._wealth]
        self._answers += own
        self._wealth = [min(MAX_WEALTH, m * (1.0 + b * z)) for m, b in zip(self._wealth, BET_FRACTIONS, strict=True)]
        begins = self._cusum <= 1.0
        self._cusum = min(MAX_WEALTH, (1.0 if begins else self._cusum) * (1.0 + CUSUM_FRACTION * z))
        return begins

    def mark_change(self, at: float, before: Totals) -> None:
        """The recovery begins most likely here.

        Args:
            at: When the run finished, unix seconds.
            before: What was counted before it.
        """
        self.at = at
        self.before = before

    @property
    def value(self) -> float:
        """The e-process, with the capital that is yet to be bet."""
        return sum(self._wealth) / len(BET_FRACTIONS) + 1.0 / (self._starts + 1)

    def snapshot(self) -> list[Any]:
        """As JSON has it."""
        return [self.at, list(self.before), self._wealth, self._answers, self._starts, self._cusum]

    @classmethod
    def restore(cls, kept: Sequence[Any]) -> Self:
        """Go on from a snapshot."""
        at, before, wealth, answers, starts, cusum = kept
        proof = cls(at, tuple(before))
        proof._answers, proof._starts, proof._cusum = answers, starts, cusum
        proof._wealth = list(wealth)
        return proof


class RecoveryWatch:
    """A variant that is watched: what it is to be shown of, and how far that is.

    Args:
        about: What it was in trouble with.
        past: How bad its answers were before the trouble; None = not known.
        proofs: How many things are to be shown: all of them.
        restoring: It has recovered once, and is given weight again: alarms are raised as well.
    """

    __slots__ = ("about", "past", "proofs", "restoring")

    def __init__(
        self, about: Criterion, past: float | None, proofs: Sequence[RecoveryEProcess], *, restoring: bool = False
    ) -> None:
        self.about = about
        self.past = past
        self.proofs = list(proofs)
        self.restoring = restoring

    @property
    def least(self) -> RecoveryEProcess:
        """That of which least was shown."""
        return min(self.proofs, key=lambda proof: proof.value)

    def snapshot(self) -> list[Any]:
        """As JSON has it."""
        proofs = [proof.snapshot() for proof in self.proofs]
        return [self.about, self.past, proofs, self.restoring]

    @classmethod
    def restore(cls, kept: Sequence[Any]) -> Self:
        """Go on from a snapshot."""
        about, past, proofs, restoring = kept
        return cls(about, past, [RecoveryEProcess.restore(proof) for proof in proofs], restoring=restoring)
