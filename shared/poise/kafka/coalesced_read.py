"""Coalesced reads: concurrent callers share one read, which starts after the call of each of them."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class CoalescedRead(Generic[T]):
    """Runs one read at a time for any number of callers.

    Args:
        read: Reads the value.
    """

    def __init__(self, read: Callable[[], Awaitable[T]]) -> None:
        self.last_value: T | None = None
        """The value of the last read; None = none yet."""
        self._read = read
        self._lock = asyncio.Lock()
        self._started = 0
        self._finished = 0

    async def read(self) -> T:
        """Return the value of a read that starts after this call. Raises what the read raises."""
        # A read in progress may have been answered before this call, so this caller needs one that starts from here on.
        # All callers that arrive during a read share the next one.
        mine = self._started + 1
        async with self._lock:
            if self.last_value is None or self._finished < mine:
                self._started += 1
                self.last_value = await self._read()
                self._finished = self._started
            return self.last_value
