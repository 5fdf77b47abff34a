"""Flights: many who ask the same at once have it worked out once (single flight, as Go's `singleflight` has it).

In a worker the first who comes goes for all; across workers a lease in Redis says which worker's works it out. What
came of it, of whatever rung, stands under the lease's key for some seconds, for those who wait elsewhere.

What can go wrong, and what then holds:

- Who works it out is withdrawn, or its handler fails: the lease is given up, and the next of those who wait takes it.
- Its worker dies: nothing renews the lease, it runs out, and the next who looks takes it. It is paid once more.
- Its worker stands still for longer than the lease: another works it out too. The first one's outcome is refused by
  the journal, whose lease is another's now, and is sent to those who wait in its own worker all the same: it is as
  good as it was.
- Redis forgets the lease, or is absent: those in one worker still share; each worker pays once.
- Who goes for all in its worker has no time left: it stops waiting, and the next one goes.
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
"""Seconds for which an outcome stands: it is looked for every quarter of a second."""
_KIND: Final = "entry"


Accepts = Callable[[CachedAnswer, bool], Awaitable[bool]]
"""Whether an outcome is one for this ask; told whether another worker's clock wrote its times."""

FlightResult = tuple[CachedAnswer, bool]
"""What came of a flight, and whether another worker's clock wrote its times."""


class SingleFlight:
    """The flights that one worker takes part in.

    Args:
        journal: Where the leases are.
        ttl: Seconds that a lease holds without a heartbeat.
    """

    def __init__(self, journal: StepResultStore, ttl: float) -> None:
        self._journal = journal
        self._ttl = ttl
        self._here: dict[str, asyncio.Future[FlightResult | None]] = {}

    async def acquire(self, key: str, accepts: Accepts, within: float) -> "CachedAnswer | Flight | None":
        """What came of another's flight; or one of one's own, to be landed; None = there was no time to wait longer.

        Args:
            key: What makes two asks the same.
            accepts: Whether another's outcome will do.
            within: Seconds to wait for another.
        """
        until = time.monotonic() + within
        while (going := self._here.get(key)) is not None:
            async with parked():
                await asyncio.wait({going}, timeout=max(0.0, until - time.monotonic()))
            if not going.done():
                return None
            outcome = going.result()
            if outcome is not None and await accepts(*outcome):
                return outcome[0]
        return await self._go(key, accepts, until)

    async def _go(self, key: str, accepts: Accepts, until: float) -> "CachedAnswer | Flight | None":
        """Go for all who ask in this worker."""
        going = self._here[key] = asyncio.get_running_loop().create_future()
        flight, found, flies = Flight(self._journal, Lease(key, uuid4().hex), self._ttl), None, False

        def landed(outcome: FlightResult | None) -> None:
            del self._here[key]
            going.set_result(outcome)

        try:
            found, flies = await self._across(flight, accepts, until)
        finally:
            if flies:
                flight.begin(landed)
            else:
                landed(None if found is None else (found, True))
                if found is None:  # the answer to the last claim may have been lost, and the lease be ours
                    await flight.release()
        return flight if flies else found

    async def _across(self, flight: "Flight", accepts: Accepts, until: float) -> tuple[CachedAnswer | None, bool]:
        """What came of a flight in another worker, and whether to fly."""
        delay = FIRST_LOOK
        while True:
            match await flight.claim():
                case StoredReply() as stored:
                    found = CachedAnswer.decode(stored.body)
                    if found is not None and await accepts(found, True):
                        return found, False
                    # Of several who do this, one finds it there; the claims that follow are one's again.
                    await self._journal.forget(flight.lease, stored)
                case ClaimStatus.HELD:
                    left = until - time.monotonic()
                    if left <= 0:
                        return None, False
                    async with parked():
                        await asyncio.sleep(min(delay, left))
                    delay = min(2 * delay, LONGEST_LOOK)
                case _:
                    return None, True


class Flight:
    """One's own: it is worked out here, and others wait. It must be landed."""

    def __init__(self, journal: StepResultStore, lease: Lease, ttl: float) -> None:
        self.lease = lease
        self._journal = journal
        self._ttl = ttl
        self._beating: asyncio.Task[None] | None = None
        self._landed: Callable[[FlightResult | None], None] = lambda _: None

    def begin(self, landed: Callable[[FlightResult | None], None]) -> None:
        """Keep the lease from now on, and tell those who wait in this worker when it has landed."""
        self._landed = landed
        self._beating = asyncio.create_task(self._beat())

    async def claim(self) -> ClaimStatus | StoredReply:
        """Take the lease, or see who has it, or what came of it."""
        return await self._journal.claim(self.lease, self._ttl)

    async def complete(self, kept: CachedAnswer | None) -> None:
        """Give those who wait what came of it; None = nothing did, and another is to try."""
        if self._beating is not None:
            self._beating.cancel()
        self._landed(None if kept is None else (kept, False))
        if kept is None:
            await self.release()
        else:
            await self._journal.write(self.lease, StoredReply(_KIND, kept.encode()), RESULT_TTL)

    async def release(self) -> None:
        """Give the lease up, if it is ours."""
        await self._journal.release(self.lease)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._ttl / BEATS)
            await self._journal.renew(self.lease, self._ttl)
