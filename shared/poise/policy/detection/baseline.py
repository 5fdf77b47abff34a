"""The baseline: the mean loss of all variants' answers at any recent time."""

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any, Final, Self

MEAN_ANSWERS: Final = 20.0
"""Answers in the mean: few, so that it follows the traffic; its own noise adds 1/40 to the variance."""
MAX_BLOCKS: Final = 200
BLOCK_ANSWERS: Final = 50
"""Answers of one block."""


class Baseline:
    """The mean loss of recent answers, by block of time.

    An answer is compared with the mean at the time of its question, as it was known before the answer: when a slow
    variant answers, the traffic may have changed. The comparison is valid for any baseline that is known beforehand; a
    close one makes it precise, which matters when answers do not arrive in the order of their draws.
    """

    def __init__(self) -> None:
        self._starts: list[float] = []
        self._means: list[float] = []
        self._weights: list[float] = []
        self._count = 0

    def mean_at(self, started_at: float) -> float:
        """Return the mean at a time, unix seconds; 0.5 before the first answer."""
        if not self._means:
            return 0.5
        return self._means[self._block(started_at)]

    def add(self, started_at: float, loss: float) -> None:
        """Add an answer, after it was compared."""
        if not self._starts:
            self._open(started_at, 0.5, 1.0)
        elif self._count >= BLOCK_ANSWERS and started_at > self._starts[-1]:
            self._open(started_at, self._means[-1], self._weights[-1])
        block = self._block(started_at)
        if block == len(self._starts) - 1:
            self._count += 1
        weight = self._weights[block] = min(self._weights[block] + 1.0, MEAN_ANSWERS)
        self._means[block] += (loss - self._means[block]) / weight

    def _block(self, started_at: float) -> int:
        if started_at >= self._starts[-1]:
            return len(self._starts) - 1
        return max(0, bisect_right(self._starts, started_at) - 1)

    def _open(self, started_at: float, mean: float, weight: float) -> None:
        self._starts.append(started_at)
        self._means.append(mean)
        self._weights.append(weight)
        self._count = 0
        if len(self._starts) > MAX_BLOCKS:
            del self._starts[0], self._means[0], self._weights[0]

    def snapshot(self) -> list[Any]:
        """Return the state as JSON values."""
        return [self._starts, self._means, self._weights, self._count]

    @classmethod
    def restore(cls, values: Sequence[Any]) -> Self:
        """Return the baseline of a snapshot."""
        baseline = cls()
        starts, means, weights, baseline._count = values
        baseline._starts, baseline._means, baseline._weights = list(starts), list(means), list(weights)
        return baseline
