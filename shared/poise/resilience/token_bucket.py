"""Token bucket: at most so many in the long run, with a burst on top. No clock of its own."""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final

MAX_KEYS: Final = 10_000
"""Buckets that are remembered; beyond it the one used longest ago is forgotten, and is full when it is used again."""


class TokenBucket:
    """One bucket, full at first.

    Args:
        rate: Tokens a second that come back.
        burst: Tokens that it holds.
    """

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._at = float("-inf")

    def take(self, now: float) -> float:
        """Take one token.

        Args:
            now: Seconds, of a clock that never goes back.

        Returns:
            0 if it was there; else seconds until it will be, and none is taken.
        """
        if now > self._at:
            self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
            self._at = now
        if self._tokens < 1:
            return (1 - self._tokens) / self._rate
        self._tokens -= 1
        return 0.0

    def refund(self) -> None:
        """Put a token back that was taken in vain."""
        self._tokens = min(self._burst, self._tokens + 1)


class KeyedTokenBuckets:
    """A bucket for each key, and one for all of them together.

    Args:
        each: Rate and burst of each key.
        together: Rate and burst of all.
    """

    def __init__(self, each: tuple[float, float], together: tuple[float, float]) -> None:
        self._each = each
        self._together = TokenBucket(*together)
        self._buckets: OrderedDict[Hashable, TokenBucket] = OrderedDict()

    def take(self, key: Hashable, now: float) -> float:
        """Take a token of a key and one of all; see `TokenBucket.take`."""
        own = self._buckets.get(key)
        if own is None:
            own = self._buckets[key] = TokenBucket(*self._each)
            if len(self._buckets) > MAX_KEYS:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(key)
        if wait := own.take(now):
            return wait
        if wait := self._together.take(now):
            own.refund()
        return wait
