"""The e-detector: evidence, answer by answer, for a change that may have begun at any earlier time."""

from collections.abc import Sequence
from typing import Any, Final, Self

from poise.policy.detection.counts import Totals

BET_FRACTIONS: Final = (0.02, 0.05, 0.12, 0.3, 0.7)
"""Fractions of the wealth that are bet, spaced exponentially: small ones detect small changes."""
A, B, C, D, E = BET_FRACTIONS
CUSUM_FRACTION: Final = B
"""The fraction whose CUSUM dates the beginning of a change."""
MAX_RUNS: Final = 10


class EDetector:
    """The Shiryaev–Roberts e-detector of betting e-processes (Shin, Ramdas, Rinaldo: "E-detectors", 2022).

    For each fraction b, M = (M + answers since) · (1 + b·z). A new bet with wealth 1 starts at each answer; it wins if
    z is above zero on average. If z is not (E[z | past] ≤ 0, z ≥ -1), then E[M] ≤ the number of answers, whatever the
    dependence between answers. So on average at least n answers pass before M reaches n (the average run length).
    """

    __slots__ = ("before", "change_at", "cusum", "last_index", "runs", "total", "wealth")

    def __init__(self, last_index: int = 0) -> None:
        self.wealth = (0.0, 0.0, 0.0, 0.0, 0.0)
        self.total = 0.0
        self.last_index = last_index
        """The number of the last answer that updated it."""
        self.cusum = 0.0
        self.change_at = 0.0
        """When a change most likely began: the last start of CUSUM (Page, 1954)."""
        self.before: Totals = ()
        """The totals of each variant before that."""
        self.runs: list[tuple[float, str]] = []

    def update(self, z: float, number: int) -> bool:
        """Add an answer; return whether a change most likely begins with it.

        Args:
            z: The payoff of a bet, -1 or more: above zero on average if the variant is worse, else zero or less.
            number: The number of answers, including this one.
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

    def mark_change(self, finished_at: float, before: Totals) -> None:
        """Set the most likely beginning of a change.

        Args:
            finished_at: When the run finished.
            before: The totals before it.
        """
        self.change_at = finished_at
        self.before = before
        self.runs = []

    def cap(self, most: float) -> None:
        """Limit the wealth of each bet, which can only delay an alarm."""
        a, b, c, d, e = self.wealth
        self.wealth = (min(a, most), min(b, most), min(c, most), min(d, most), min(e, most))

    def remember_run(self, z: float, run: str) -> None:
        """Remember a run if its z is among the largest; of equal ones, the last. Changes no evidence."""
        runs = self.runs
        if len(runs) < MAX_RUNS:
            runs.append((z, run))
            return
        least = min(range(MAX_RUNS), key=lambda n: runs[n][0])
        if z >= runs[least][0]:
            del runs[least]
            runs.append((z, run))

    def top_runs(self) -> tuple[str, ...]:
        """Return the runs with the largest z, largest first."""
        return tuple(run for _, run in sorted(self.runs, key=lambda item: -item[0]))

    def snapshot(self) -> list[Any]:
        """Return the state as JSON values."""
        return [
            list(self.wealth),
            self.last_index,
            self.cusum,
            self.change_at,
            list(self.before),
            [list(run) for run in self.runs],
        ]

    @classmethod
    def restore(cls, values: Sequence[Any]) -> Self:
        """Return the e-detector of a snapshot."""
        detector = cls()
        wealth, detector.last_index, detector.cusum, detector.change_at, before, runs = values
        a, b, c, d, e = detector.wealth = tuple(wealth)
        detector.total = a + b + c + d + e
        detector.before = tuple(before)
        detector.runs = [(z, run) for z, run in runs]
        return detector
