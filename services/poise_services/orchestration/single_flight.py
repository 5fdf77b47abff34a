"""Single flight: concurrent identical asks produce one answer (as Go's `singleflight`).

In a worker the first ask becomes the leader; across workers a lease in Redis decides which worker produces the answer.
The result, of whichever rung, is stored under the lease's key for some seconds, for the asks waiting in other workers.

What can go wrong, and what then holds:

- The leader is cancelled, or its handler fails: the lease is released, and the next waiting ask acquires it.
- The leader's worker dies: nothing renews the lease, it expires, and the next ask that looks acquires it. The inference
  is paid once more.
- The leader's worker stalls for longer than the lease: another worker produces the answer too. Redis rejects the first
  result, because another worker holds the lease. The asks that wait in the first worker still receive that result: it
  remains correct.
- Redis loses the lease, or is absent: asks in one worker still share; each worker pays once.
- The leader of a worker that waits for another worker runs out of time: it stops waiting, and the next ask leads.
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

    async def acquire(self, key: str, accepts: Accepts, within: float) -> "CachedAnswer | Flight | None":
        """Return another caller's result, or a Flight that this caller must complete.

        Args:
            key: Identical for identical asks.
            accepts: Whether another caller's result is usable.
            within: Seconds to wait for another caller.

        Returns:
            None if another caller holds the flight and the time is over.
        """
        until = time.monotonic() + within
        while (pending := self._pending.get(key)) is not None:
            async with parked():
                await asyncio.wait({pending}, timeout=max(0.0, until - time.monotonic()))
            if not pending.done():
                return None
            outcome = pending.result()
            if outcome is not None and await accepts(*outcome):
                return outcome[0]
        return await self._lead(key, accepts, until)

    async def _lead(self, key: str, accepts: Accepts, until: float) -> "CachedAnswer | Flight | None":
        """Lead the asks of this worker."""
        pending = self._pending[key] = asyncio.get_running_loop().create_future()
        flight, found, leads = Flight(self._leases, Lease(key, self._leases.new_token())), None, False

        def completed(outcome: FlightResult | None) -> None:
            del self._pending[key]
            pending.set_result(outcome)

        try:
            found, leads = await self._across(flight, accepts, until)
        finally:
            if leads:
                flight.begin(completed)
            else:
                completed(None if found is None else (found, True))
                self._leases.stop_renewing(flight.lease)
                if found is None:  # Redis' reply to the last claim may be lost, and the lease ours
                    await flight.release()
        return flight if leads else found

    async def _across(self, flight: "Flight", accepts: Accepts, until: float) -> tuple[CachedAnswer | None, bool]:
        """Return the result of a flight in another worker, and whether this worker has the lease."""
        intervals = poll_intervals()
        while True:
            match await flight.claim():
                case StoredReply() as stored:
                    found = CachedAnswer.decode(stored.body)
                    if found is not None and await accepts(found, True):
                        return found, False
                    # Of several that do this, one deletes it; the claims that follow get the lease.
                    await self._leases.discard(flight.lease, stored)
                case LeaseStatus.HELD_ELSEWHERE:
                    left = until - time.monotonic()
                    if left <= 0:
                        return None, False
                    async with parked():
                        await asyncio.sleep(min(next(intervals), left))
                case _:
                    return None, True


class Flight:
    """The production of an answer that other asks wait for. It must be completed."""

    def __init__(self, leases: LeaseHolder, lease: Lease) -> None:
        self.lease = lease
        self._leases = leases
        self._completed: Callable[[FlightResult | None], None] = lambda _: None

    def begin(self, completed: Callable[[FlightResult | None], None]) -> None:
        """Lead the flight; `completed` gives the result to the asks that wait in this worker."""
        self._completed = completed

    async def claim(self) -> LeaseStatus | StoredReply:
        """Try to acquire the lease; return its status, or the stored result."""
        return await self._leases.acquire(self.lease)

    async def complete(self, answer: CachedAnswer | None) -> None:
        """Give the result to the asks that wait; None = there is none, and another ask is to produce it."""
        self._leases.stop_renewing(self.lease)
        self._completed(None if answer is None else (answer, False))
        if answer is None:
            await self.release()
        else:
            await self._leases.store(self.lease, StoredReply(_KIND, answer.encode()), RESULT_TTL)

    async def release(self) -> None:
        """Release the lease if this worker holds it."""
        await self._leases.release(self.lease)
