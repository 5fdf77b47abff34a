"""The runs that were counted, so that none counts twice if its score is repeated."""

import base64
import sys
from array import array
from collections import deque
from collections.abc import Iterable
from hashlib import blake2b
from typing import Final, Self

MAX_REMEMBERED_RUNS: Final = 65_536
"""Runs remembered. Scores are repeated right after a restart of an evaluation worker, which is far fewer runs ago."""


class SeenRuns:
    """The last runs that were counted, as 64-bit digests: two of these runs share one with a probability of 10⁻¹⁰."""

    def __init__(self, digests: Iterable[int] = ()) -> None:
        self._order = deque(digests)
        self._known = set(self._order)

    def __len__(self) -> int:
        """Return how many runs are remembered."""
        return len(self._order)

    def add(self, run: str) -> bool:
        """Add a run; return False if it was counted before."""
        digest = int.from_bytes(blake2b(run.encode(), digest_size=8).digest())
        if digest in self._known:
            return False
        self._known.add(digest)
        self._order.append(digest)
        if len(self._order) > MAX_REMEMBERED_RUNS:
            self._known.discard(self._order.popleft())
        return True

    def to_base64(self) -> str:
        """Return base64 of the digests as little-endian 64-bit numbers, oldest first."""
        return base64.b64encode(_little(array("Q", self._order)).tobytes()).decode()

    @classmethod
    def from_base64(cls, text: str) -> Self:
        """Return the runs that `to_base64` wrote.

        Raises:
            ValueError: The text has another form.
        """
        digests = array("Q")
        digests.frombytes(base64.b64decode(text, validate=True))
        return cls(_little(digests))


def _little(digests: "array[int]") -> "array[int]":
    """Convert to the byte order of the snapshot, or from it."""
    if sys.byteorder == "big":
        digests.byteswap()
    return digests
