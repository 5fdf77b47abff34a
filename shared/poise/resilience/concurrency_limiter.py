"""ConcurrencyLimiter: how many requests a server may have in flight, which ones wait, and which lane is next."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext

from poise.contracts.topics import Lane


class ConcurrencyLimiter:
    """The slots of one server, granted in the order of the requests within a lane.

    The batch lane holds at most its share of the slots, and at least one. While both lanes wait, it gets every n-th
    slot that is released. So neither lane starves the other.

    Args:
        total: How many there are.
        batch_share: The share of the batch lane, above 0, at most 1.
    """

    def __init__(self, total: int, batch_share: float = 0.25) -> None:
        self._free = total
        self._batch_free = max(1, round(total * batch_share))
        self._turns = max(1, round(1 / batch_share))
        self._turn = 0
        self._taken = 0
        self._queues: dict[Lane, deque[asyncio.Future[None]]] = {"interactive": deque(), "batch": deque()}

    @property
    def taken(self) -> int:
        """Places that are held."""
        return self._taken

    @property
    def waiting(self) -> int:
        """Requests that wait for one."""
        return sum(not waiter.done() for queue in self._queues.values() for waiter in queue)

    @asynccontextmanager
    async def slot(
        self, lane: Lane = "interactive", waiting: Callable[[], AbstractAsyncContextManager[None]] = nullcontext
    ) -> AsyncIterator[float]:
        """Hold a slot; yields the seconds that the caller waited for it.

        Args:
            lane: Whose turn it is.
            waiting: Entered while there is none.
        """
        began = time.perf_counter()
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queues[lane].append(waiter)
        self._give()
        try:
            if not waiter.done():
                async with waiting():
                    await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():  # it was given one in the same moment
                self._give_back(lane)
            elif waiter in self._queues[lane]:  # else a place that fell free passed it over meanwhile
                self._queues[lane].remove(waiter)
            raise
        try:
            yield time.perf_counter() - began
        finally:
            self._give_back(lane)

    def _give_back(self, lane: Lane) -> None:
        self._taken -= 1
        self._free += 1
        if lane == "batch":
            self._batch_free += 1
        self._give()

    def _give(self) -> None:
        while self._free and (lane := self._next()) is not None:
            waiter = self._queues[lane].popleft()
            if waiter.done():
                # Many whose time is up in one moment: each future is cancelled before any of the tasks runs. The first
                # task to run gives its place back, and finds here the waiters of the others, who want none any more.
                continue
            waiter.set_result(None)
            self._taken += 1
            self._free -= 1
            if lane == "batch":
                self._batch_free -= 1

    def _next(self) -> Lane | None:
        batch = bool(self._queues["batch"]) and self._batch_free > 0
        if not self._queues["interactive"]:
            return "batch" if batch else None
        if not batch:
            return "interactive"
        self._turn = (self._turn + 1) % self._turns
        return "interactive" if self._turn else "batch"
