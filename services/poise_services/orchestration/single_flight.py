"""Single flight: concurrent identical asks produce one answer (as Go's `singleflight`).

In a worker the first ask becomes the leader; across workers a lease in Redis decides which worker produces the answer.
The result, of whichever rung, is stored under the lease's key for some seconds, for the asks waiting in other workers.

Failures, and what happens then:

- The leader is cancelled, or its handler fails: the lease is released, and the next waiting ask acquires it.
- The leader's worker dies: nothing renews the lease, it expires, and the next ask that looks acquires it. The inference
  is paid once more.
- The leader's worker stalls for longer than the lease: another worker produces the answer too. Redis rejects the first
  result, because another worker holds the lease. The asks that wait in the first worker still receive that result: it
  remains correct.
- Redis loses the lease, or is absent: asks in one worker still share; each worker pays once.
- The leader runs out of time while it waits for another worker: it stops waiting, and the next ask of its worker leads.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

from poise.kafka.handling_slots import parked
from poise.redis.answer_store import CachedAnswer
from poise.redis.lease import LeaseHolder, poll_intervals
from poise.redis.lease_store import Lease, LeaseStatus, StoredReply

RESULT_TTL: Final = 5.0
"""Seconds for which a result is stored; waiting workers poll every quarter of a second."""
_KIND: Final = "entry"


Accepts = Callable[[CachedAnswer, bool], Awaitable[bool]]
"""Whether a result is usable for this ask, given whether another worker's clock wrote its times."""

FlightResult = tuple[CachedAnswer, bool]
"""The result of a flight, and whether another worker's clock wrote its times."""


class SingleFlight:
    """The flights of one worker.

    Args:
        leases: Holds and renews the leases of this worker's flights.
    """

    def __init__(self, leases: LeaseHolder) -> None:
        self._leases = leases
        self._pending: dict[str, asyncio.Future[FlightResult | None]] = {}

    async def acquire(self, key: str, accepts: Accepts, max_wait: float) -> "CachedAnswer | Flight | None":
        """Return another caller's result, or a Flight that this caller must complete.

        Args:
            key: Identical for identical asks.
            accepts: Whether another caller's result is usable.
            max_wait: Seconds to wait for another caller's result.

        Returns:
            None if another caller leads and has no result after `max_wait`.
        """
        deadline = time.monotonic() + max_wait
        while (pending := self._pending.get(key)) is not None:
            async with parked():
                await asyncio.wait({pending}, timeout=max(0.0, deadline - time.monotonic()))
            if not pending.done():
                return None
            outcome = pending.result()
            if outcome is not None and await accepts(*outcome):
                return outcome[0]
        return await self._lead(key, accepts, deadline)

    async def _lead(self, key: str, accepts: Accepts, deadline: float) -> "CachedAnswer | Flight | None":
        """Lead the asks of this worker: acquire the lease, or wait for another worker's result."""
        pending = self._pending[key] = asyncio.get_running_loop().create_future()
        flight = Flight(self._leases, Lease(key, self._leases.new_token()))
        result: CachedAnswer | None = None
        is_leader = False

        def on_complete(outcome: FlightResult | None) -> None:
            del self._pending[key]
            pending.set_result(outcome)

        try:
            result, is_leader = await self._acquire_lease(flight, accepts, deadline)
        finally:
            if is_leader:
                flight.begin(on_complete)
            else:
                on_complete(None if result is None else (result, True))
                self._leases.stop_renewing(flight.lease)
                if result is None:  # the last reply of Redis may have been lost, and this worker have the lease
                    await flight.release()
        return flight if is_leader else result

    async def _acquire_lease(
        self, flight: "Flight", accepts: Accepts, deadline: float
    ) -> tuple[CachedAnswer | None, bool]:
        """Return another worker's result, if there is one, and whether this worker has acquired the lease."""
        intervals = poll_intervals()
        while True:
            match await flight.claim():
                case StoredReply() as stored:
                    result = CachedAnswer.decode(stored.body)
                    if result is not None and await accepts(result, True):
                        return result, False
                    # Discard the result; of several workers that do so, the next to claim gets the lease.
                    await self._leases.discard(flight.lease, stored)
                case LeaseStatus.HELD_ELSEWHERE:
                    remaining = deadline - time.monotonic()
                    if remaining <= 0:
                        return None, False
                    async with parked():
                        await asyncio.sleep(min(next(intervals), remaining))
                case _:
                    return None, True


class Flight:
    """The production of an answer that other asks may wait for. The caller must complete it."""

    def __init__(self, leases: LeaseHolder, lease: Lease) -> None:
        self.lease = lease
        self._leases = leases
        self._on_complete: Callable[[FlightResult | None], None] = lambda _: None

    def begin(self, on_complete: Callable[[FlightResult | None], None]) -> None:
        """Lead the flight; `on_complete` gives the result to the asks that wait in this worker."""
        self._on_complete = on_complete

    async def claim(self) -> LeaseStatus | StoredReply:
        """Try to acquire the lease; return its status, or the stored result."""
        return await self._leases.acquire(self.lease)

    async def complete(self, answer: CachedAnswer | None) -> None:
        """Give the result to the waiting asks; None = there is none, and one of them leads."""
        self._leases.stop_renewing(self.lease)
        self._on_complete(None if answer is None else (answer, False))
        if answer is None:
            await self.release()
        else:
            await self._leases.store(self.lease, StoredReply(_KIND, answer.encode()), RESULT_TTL)

    async def release(self) -> None:
        """Release the lease if this worker holds it."""
        await self._leases.release(self.lease)
