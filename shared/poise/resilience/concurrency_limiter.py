"""ConcurrencyLimiter: limits the requests in flight to one server, and divides its slots between the lanes."""

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
        total: The number of slots.
        batch_share: The share of the batch lane, above 0, at most 1.
    """

    def __init__(self, total: int, batch_share: float = 0.25) -> None:
        self._free = total
        self._batch_free = max(1, round(total * batch_share))
        self._turns = max(1, round(1 / batch_share))
        self._turn = 0
        self._in_use = 0
        self._queues: dict[Lane, deque[asyncio.Future[None]]] = {"interactive": deque(), "batch": deque()}

    @property
    def in_use(self) -> int:
        """The number of slots in use."""
        return self._in_use

    @property
    def waiting(self) -> int:
        """The number of requests that wait for a slot."""
        return sum(not waiter.done() for queue in self._queues.values() for waiter in queue)

    @asynccontextmanager
    async def slot(
        self, lane: Lane = "interactive", while_waiting: Callable[[], AbstractAsyncContextManager[None]] = nullcontext
    ) -> AsyncIterator[float]:
        """Hold a slot; yield the seconds that the caller waited for it.

        Args:
            lane: The lane of the request.
            while_waiting: Entered while the caller waits.
        """
        began = time.perf_counter()
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queues[lane].append(waiter)
        self._grant()
        try:
            if not waiter.done():
                async with while_waiting():
                    await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():  # it was granted a slot in the same loop iteration
                self._release(lane)
            elif waiter in self._queues[lane]:  # else `_grant` has already removed it
                self._queues[lane].remove(waiter)
            raise
        try:
            yield time.perf_counter() - began
        finally:
            self._release(lane)

    def _release(self, lane: Lane) -> None:
        self._in_use -= 1
        self._free += 1
        if lane == "batch":
            self._batch_free += 1
        self._grant()

    def _grant(self) -> None:
        while self._free and (lane := self._next_lane()) is not None:
            waiter = self._queues[lane].popleft()
            if waiter.done():
                # Many requests may time out in one loop iteration: each future is cancelled before any of the tasks
                # runs. The first task to run releases its slot and finds here the cancelled waiters of the others.
                continue
            waiter.set_result(None)
            self._in_use += 1
            self._free -= 1
            if lane == "batch":
                self._batch_free -= 1

    def _next_lane(self) -> Lane | None:
        batch = bool(self._queues["batch"]) and self._batch_free > 0
        if not self._queues["interactive"]:
            return "batch" if batch else None
        if not batch:
            return "interactive"
        self._turn = (self._turn + 1) % self._turns
        return "interactive" if self._turn else "batch"
