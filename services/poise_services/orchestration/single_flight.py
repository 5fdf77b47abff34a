"""Single flight: concurrent identical asks produce one answer (as Go's `singleflight`).

In a worker the first ask becomes the leader; across workers a lease in Redis decides which worker produces the answer.
The result, of whichever rung, is stored under the lease's key for some seconds, for the asks waiting in other workers.

What can go wrong, and what then holds:

- The leader is cancelled, or its handler fails: the lease is released, and the next waiting ask acquires it.
- The leader's worker dies: nothing renews the lease, it expires, and the next ask that looks acquires it. The inference
  is paid once more.
- The leader's worker stalls for longer than the lease: another worker produces the answer too. Redis refuses the first
  result, because another worker holds the lease. The asks that wait in the first worker receive it nevertheless: it is
  as good as it was.
- Redis loses the lease, or is absent: asks in one worker still share; each worker pays once.
- The leader of a worker that waits for another worker runs out of time: it stops waiting, and the next ask leads.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final
from uuid import uuid4

from poise.kafka.handling_slots import parked
from poise.redis.answer_store import CachedAnswer
from poise.redis.step_results import ClaimStatus, Lease, StepResultStore, StoredReply
from poise.worker.idempotency import BEATS, FIRST_LOOK, LONGEST_LOOK

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
        journal: Holds the leases and the results.
        ttl: Seconds for which a lease is valid without a heartbeat.
    """

    def __init__(self, journal: StepResultStore, ttl: float) -> None:
        self._journal = journal
        self._ttl = ttl
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
        flight, found, leads = Flight(self._journal, Lease(key, uuid4().hex), self._ttl), None, False

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
                if found is None:  # Redis' reply to the last claim may be lost, and the lease ours
                    await flight.release()
        return flight if leads else found

    async def _across(self, flight: "Flight", accepts: Accepts, until: float) -> tuple[CachedAnswer | None, bool]:
        """Return the result of a flight in another worker, and whether this worker has the lease."""
        delay = FIRST_LOOK
        while True:
            match await flight.claim():
                case StoredReply() as stored:
                    found = CachedAnswer.decode(stored.body)
                    if found is not None and await accepts(found, True):
                        return found, False
                    # Of several that do this, one deletes it; the claims that follow get the lease.
                    await self._journal.forget(flight.lease, stored)
                case ClaimStatus.HELD_ELSEWHERE:
                    left = until - time.monotonic()
                    if left <= 0:
                        return None, False
                    async with parked():
                        await asyncio.sleep(min(delay, left))
                    delay = min(2 * delay, LONGEST_LOOK)
                case _:
                    return None, True


class Flight:
    """The production of an answer that other asks wait for. It must be completed."""

    def __init__(self, journal: StepResultStore, lease: Lease, ttl: float) -> None:
        self.lease = lease
        self._journal = journal
        self._ttl = ttl
        self._heartbeat_task: asyncio.Task[None] | None = None
        self._completed: Callable[[FlightResult | None], None] = lambda _: None

    def begin(self, completed: Callable[[FlightResult | None], None]) -> None:
        """Renew the lease from now on; `completed` gives the result to the asks that wait in this worker."""
        self._completed = completed
        self._heartbeat_task = asyncio.create_task(self._heartbeat())

    async def claim(self) -> ClaimStatus | StoredReply:
        """Try to acquire the lease; return its status, or the stored result."""
        return await self._journal.claim(self.lease, self._ttl)

    async def complete(self, result: CachedAnswer | None) -> None:
        """Give the result to the asks that wait; None = there is none, and another ask is to produce it."""
        if self._heartbeat_task is not None:
            self._heartbeat_task.cancel()
        self._completed(None if result is None else (result, False))
        if result is None:
            await self.release()
        else:
            await self._journal.write(self.lease, StoredReply(_KIND, result.encode()), RESULT_TTL)

    async def release(self) -> None:
        """Release the lease if this worker holds it."""
        await self._journal.release(self.lease)

    async def _heartbeat(self) -> None:
        while True:
            await asyncio.sleep(self._ttl / BEATS)
            await self._journal.renew(self.lease, self._ttl)
