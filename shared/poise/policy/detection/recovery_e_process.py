"""The recovery e-process: evidence that a variant that became worse is acceptable again."""

from collections.abc import Sequence
from typing import Any, Final, Self

from poise.contracts.policy import Criterion
from poise.policy.detection.counts import Totals
from poise.policy.detection.e_detector import BET_FRACTIONS, CUSUM_FRACTION

RECOVERY_THRESHOLD: Final = 20.0
"""The value that shows recovery: 1/0.05, the level of the test over the whole time that the variant is watched."""
RESTART_ANSWERS: Final = 50
"""Answers of the variant between two starts."""
MAX_WEALTH: Final = 10 * RECOVERY_THRESHOLD
"""Maximum wealth of each bet; the limit can only delay a recovery. While a person holds the policy, recovery may be
shown long before it takes effect. Without a limit, numbers would overflow, and a relapse would be noticed only after
all that wealth is lost."""


class RecoveryEProcess:
    """An e-process of bets against "still worse" (Waudby-Smith and Ramdas, 2024) with repeated starts.

    The j-th start, every 50 answers, gets 1/(j·(j+1)) of the wealth: a variant that was worse for long can still be
    shown to have recovered, and all starts together are wrong with a probability of at most 5 % (Ville's inequality).
    The evidence therefore does not rest on all answers since the alarm; findings report those since the recovery most
    likely began.

    Args:
        began_at: When it begins, unix seconds.
        before: The totals before that.
    """

    __slots__ = ("_answers", "_cusum", "_starts", "_wealth", "before", "began_at")

    def __init__(self, began_at: float, before: Totals) -> None:
        self.began_at = began_at
        self.before = before
        """The totals before the last start of CUSUM (Page, 1954), as in `EDetector`."""
        self._cusum = 0.0
        self._wealth = [0.0] * len(BET_FRACTIONS)
        self._answers = 0
        self._starts = 0

    def update(self, z: float, *, own: bool) -> bool:
        """Add an answer; return whether the recovery most likely begins with it.

        Args:
            z: The payoff of a bet, -1 or more: zero or less on average while the variant is still worse.
            own: Whether it is an answer of the variant itself.
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

    def mark_change(self, finished_at: float, before: Totals) -> None:
        """Set the most likely beginning of the recovery.

        Args:
            finished_at: When the run finished, unix seconds.
            before: The totals before it.
        """
        self.began_at = finished_at
        self.before = before

    @property
    def value(self) -> float:
        """The e-process, including the wealth that is not yet bet."""
        return sum(self._wealth) / len(BET_FRACTIONS) + 1.0 / (self._starts + 1)

    def snapshot(self) -> list[Any]:
        """Return the state as JSON values."""
        return [self.began_at, list(self.before), self._wealth, self._answers, self._starts, self._cusum]

    @classmethod
    def restore(cls, values: Sequence[Any]) -> Self:
        """Restore a snapshot."""
        began_at, before, wealth, answers, starts, cusum = values
        process = cls(began_at, tuple(before))
        process._answers, process._starts, process._cusum = answers, starts, cusum
        process._wealth = list(wealth)
        return process


class RecoveryWatch:
    """A variant that is watched for recovery, with the evidence so far.

    Args:
        criterion: The criterion of its alarm.
        past: Its mean loss before the alarm; None = not known.
        proofs: The e-processes; all must show recovery. Two if the variant must be no worse than the others and within
            the range, else one.
        restoring: It has recovered once and its share is being restored: alarms are raised as well.
    """

    __slots__ = ("criterion", "past", "proofs", "restoring")

    def __init__(
        self, criterion: Criterion, past: float | None, proofs: Sequence[RecoveryEProcess], *, restoring: bool = False
    ) -> None:
        self.criterion = criterion
        self.past = past
        self.proofs = list(proofs)
        self.restoring = restoring

    @property
    def against_others(self) -> RecoveryEProcess:
        """The e-process of "no worse than the other variants"."""
        return self.proofs[0]

    @property
    def against_bound(self) -> RecoveryEProcess:
        """The e-process of "within its own bound": the range, the ceiling, or its own past."""
        return self.proofs[-1]

    @property
    def least(self) -> RecoveryEProcess:
        """The e-process with the least evidence."""
        return min(self.proofs, key=lambda proof: proof.value)

    def snapshot(self) -> list[Any]:
        """Return the state as JSON values."""
        proofs = [proof.snapshot() for proof in self.proofs]
        return [self.criterion, self.past, proofs, self.restoring]

    @classmethod
    def restore(cls, values: Sequence[Any]) -> Self:
        """Restore a snapshot."""
        criterion, past, proofs, restoring = values
        return cls(criterion, past, [RecoveryEProcess.restore(proof) for proof in proofs], restoring=restoring)
