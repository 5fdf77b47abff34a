"""Bets: an e-detector, which gathers what each answer says for a change that may have begun at any time before it."""

from collections.abc import Sequence
from typing import Any, Final, Self

BET_FRACTIONS: Final = (0.02, 0.05, 0.12, 0.3, 0.7)
"""Shares of the capital that are bet, spaced exponentially: small ones notice small changes."""
A, B, C, D, E = BET_FRACTIONS
CUSUM_FRACTION: Final = B
"""The bet whose CUSUM says when a change began."""
MAX_RUNS: Final = 10

Totals = tuple[float, ...]


class EDetector:
    """The Shiryaev–Roberts e-detector of betting e-processes (Shin, Ramdas, Rinaldo: "E-detectors", 2022).

    For each bet b, M = (M + answers since) · (1 + b·z): whoever bets starts with 1 at each answer anew and bets that z
    is above zero on average. Where it is not (E[z | all before] ≤ 0, z ≥ -1), E[M] ≤ the number of answers, so that
    until M reaches n, at least n answers pass on average, whatever they depend on.
    """

    __slots__ = ("at", "before", "cusum", "last_index", "runs", "total", "wealth")

    def __init__(self, last_index: int = 0) -> None:
        self.wealth = (0.0, 0.0, 0.0, 0.0, 0.0)
        self.total = 0.0
        self.last_index = last_index
        """The number of the answer after which it was updated last."""
        self.cusum = 0.0
        self.at = 0.0
        """When a change began most likely: where CUSUM (Page, 1954) started last."""
        self.before: Totals = ()
        """What was counted of each variant before that."""
        self.runs: list[tuple[float, str]] = []

    def update(self, z: float, number: int) -> bool:
        """Take in an answer; what is returned is whether the most likely beginning of a change is this answer.

        Args:
            z: -1 or more; on average above zero where there is trouble, else zero or less.
            number: How many answers there were, with this one.
        """
        since = number - self.last_index
        self.last_index = number
        a, b, c, d, e = self.wealth  # one by one: three times as fast as a loop
        a = (a + since) * (1.0 + A * z)
        b = (b + since) * (1.0 + B * z)
        c = (c + since) * (1.0 + C * z)
        d = (d + since) * (1.0 + D * z)
        e = (e + since) * (1.0 + E * z)
        self.wealth = (a, b, c, d, e)
        self.total = a + b + c + d + e
        if self.cusum > 1.0:
            self.cusum *= 1.0 + CUSUM_FRACTION * z
            return False
        self.cusum = 1.0 + CUSUM_FRACTION * z
        return True

    def mark_change(self, at: float, before: Totals) -> None:
        """A change begins most likely here.

        Args:
            at: When the run finished.
            before: What was counted before it.
        """
        self.at = at
        self.before = before
        self.runs = []

    def cap(self, most: float) -> None:
        """Keep no more than that of each bet: it can only put an alarm off."""
        a, b, c, d, e = self.wealth
        self.wealth = (min(a, most), min(b, most), min(c, most), min(d, most), min(e, most))

    def add_evidence(self, z: float, run: str) -> None:
        """Keep the runs that weighed most, of equal ones the last."""
        runs = self.runs
        if len(runs) < MAX_RUNS:
            runs.append((z, run))
            return
        least = min(range(MAX_RUNS), key=lambda n: runs[n][0])
        if z >= runs[least][0]:
            del runs[least]
            runs.append((z, run))

    def top_runs(self) -> tuple[str, ...]:
        """The runs that weighed most, those first."""
        return tuple(run for _, run in sorted(self.runs, key=lambda kept: -kept[0]))

    def snapshot(self) -> list[Any]:
        """As JSON has it."""
        return [
            list(self.wealth),
            self.last_index,
            self.cusum,
            self.at,
            list(self.before),
            [list(run) for run in self.runs],
        ]

    @classmethod
    def restore(cls, kept: Sequence[Any]) -> Self:
        """Go on from a snapshot."""
        bets = cls()
        wealth, bets.last_index, bets.cusum, bets.at, before, runs = kept
        a, b, c, d, e = bets.wealth = tuple(wealth)
        bets.total = a + b + c + d + e
        bets.before = tuple(before)
        bets.runs = [(z, run) for z, run in runs]
        return bets
