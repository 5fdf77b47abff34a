"""Shared reads: many ask for what is so now, and one answer serves all who asked before it was asked for."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class CoalescedRead(Generic[T]):
    """Reads something, once at a time, for as many as want to know.

    Args:
        read: Reads it.
    """

    def __init__(self, read: Callable[[], Awaitable[T]]) -> None:
        self.last_value: T | None = None
        """What was read last; None = nothing yet."""
        self._read = read
        self._lock = asyncio.Lock()
        self._started = 0
        self._finished = 0

    async def read(self) -> T:
        """What a read says that begins after this was called. Errors are those of the read."""
        # A read on its way when I came may have been answered before I came: I need one that begins from here on. All
        # who come while it is on its way share the next one.
        mine = self._started + 1
        async with self._lock:
            if self.last_value is None or self._finished < mine:
                self._started += 1
                self.last_value = await self._read()
                self._finished = self._started
            return self.last_value
