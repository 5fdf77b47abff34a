"""Places: how many requests a backend may have at once, and who waits for one."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Places:
    """The places of one backend, given out in the order they are asked for."""

    def __init__(self, total: int) -> None:
        self.taken = 0
        self.waiting = 0
        self._free = asyncio.Semaphore(total)

    @asynccontextmanager
    async def one(self) -> AsyncIterator[float]:
        """Hold a place; gives the seconds that were waited for it."""
        began = time.perf_counter()
        self.waiting += 1
        try:
            await self._free.acquire()
        finally:
            self.waiting -= 1
        self.taken += 1
        try:
            yield time.perf_counter() - began
        finally:
            self.taken -= 1
            self._free.release()
