"""Shared reads: many ask for what is so now, and one answer serves all who asked before it was asked for."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class SharedRead(Generic[T]):
    """Reads something, once at a time, for as many as want to know.

    Args:
        read: Reads it.
    """

    def __init__(self, read: Callable[[], Awaitable[T]]) -> None:
        self.last: T | None = None
        """What was read last; None = nothing yet."""
        self._read = read
        self._turn = asyncio.Lock()
        self._begun = 0
        self._ended = 0

    async def now(self) -> T:
        """What a read says that begins after this was called. Errors are those of the read."""
        # A read on its way when I came may have been answered before I came: I need one that begins from here on. All
        # who come while it is on its way share the next one.
        mine = self._begun + 1
        async with self._turn:
            if self.last is None or self._ended < mine:
                self._begun += 1
                self.last = await self._read()
                self._ended = self._begun
            return self.last
