"""TokenBucket: a rate limit with a burst. The caller passes the time."""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final

MAX_KEYS: Final = 10_000
"""Maximum number of buckets; beyond it the least recently used one is dropped, and is full when it is used again."""


class TokenBucket:
    """One bucket, initially full.

    Args:
        rate: Tokens added per second.
        burst: Capacity of the bucket.
    """

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._at = float("-inf")

    def take_or_delay(self, now: float) -> float:
        """Take one token, or return the delay until there is one.

        Args:
            now: Monotonic time in seconds.

        Returns:
            0 if a token was taken; else the seconds until there will be one.
        """
        if now > self._at:
            self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
            self._at = now
        if self._tokens < 1:
            return (1 - self._tokens) / self._rate
        self._tokens -= 1
        return 0.0

    def refund(self) -> None:
        """Return an unused token."""
        self._tokens = min(self._burst, self._tokens + 1)


class KeyedTokenBuckets:
    """A bucket for each key, and one for all keys together.

    Args:
        each: Rate and burst of each key.
        together: Rate and burst of all.
    """

    def __init__(self, each: tuple[float, float], together: tuple[float, float]) -> None:
        self._each = each
        self._together = TokenBucket(*together)
        self._buckets: OrderedDict[Hashable, TokenBucket] = OrderedDict()

    def take_or_delay(self, key: Hashable, now: float) -> float:
        """Take a token of the key's bucket and one of the shared bucket; see `TokenBucket.take_or_delay`."""
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = TokenBucket(*self._each)
            if len(self._buckets) > MAX_KEYS:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(key)
        if wait := bucket.take_or_delay(now):
            return wait
        if wait := self._together.take_or_delay(now):
            bucket.refund()
        return wait
