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
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

from poise.cache import Journal, Kept, Lease, Standing, Stored
from poise.messaging.receipt import BEATS, FIRST_LOOK, LONGEST_LOOK

OUTCOME_KEPT: Final = 5.0
"""Seconds for which an outcome stands: it is looked for every quarter of a second."""
_KIND: Final = "entry"


@dataclass(frozen=True, slots=True)
class Landed:
    """What came of a flight."""

    entry: Kept
    led: bool
    """Whether it was worked out by who asks."""


Lead = Callable[[], Awaitable[Kept]]
Accepts = Callable[[Kept, bool], Awaitable[bool]]
"""Whether an outcome is one for this ask; told whether another worker's clock wrote its times."""


class Flights:
    """The flights that one worker takes part in.

    Args:
        journal: Where the leases are.
        ttl: Seconds that a lease holds without a heartbeat.
    """

    def __init__(self, journal: Journal, ttl: float) -> None:
        self._journal = journal
        self._ttl = ttl
        self._here: dict[str, asyncio.Future[tuple[Kept, bool] | None]] = {}

    async def share(self, key: str, lead: Lead, accepts: Accepts, within: float) -> Landed | None:
        """Work something out, or have it from who does; None = it took longer than `within` seconds to wait for.

        Args:
            key: What makes two asks the same.
            lead: Works it out. How long that may take is its own affair.
            accepts: Whether another's outcome will do.
            within: Seconds to wait for another.
        """
        until = time.monotonic() + within
        while True:
            going = self._here.get(key)
            if going is None:
                return await self._go(key, lead, accepts, until)
            await asyncio.wait({going}, timeout=max(0.0, until - time.monotonic()))
            if not going.done():
                return None
            outcome = going.result()
            if outcome is not None and await accepts(*outcome):
                return Landed(outcome[0], led=False)

    async def _go(self, key: str, lead: Lead, accepts: Accepts, until: float) -> Landed | None:
        """Go for all who ask in this worker."""
        self._here[key] = going = asyncio.get_running_loop().create_future()
        lease, outcome = Lease(key, uuid4().hex), None
        try:
            landed = await self._across(lease, lead, accepts, until)
            if landed is not None:
                outcome = (landed.entry, not landed.led)
            return landed
        finally:
            del self._here[key]
            going.set_result(outcome)
            if outcome is None:  # it was withdrawn or failed, and the lease may be ours
                await self._journal.release(lease)

    async def _across(self, lease: Lease, lead: Lead, accepts: Accepts, until: float) -> Landed | None:
        delay = FIRST_LOOK
        while True:
            match await self._journal.claim(lease, self._ttl):
                case Stored() as stored:
                    entry = Kept.decode(stored.body)
                    if entry is not None and await accepts(entry, True):
                        return Landed(entry, led=False)
                    # Of several who do this, one finds it there; the claims that follow are one's again.
                    await self._journal.forget(lease, stored)
                case Standing.HELD:
                    left = until - time.monotonic()
                    if left <= 0:
                        return None
                    await asyncio.sleep(min(delay, left))
                    delay = min(2 * delay, LONGEST_LOOK)
                case _:
                    return Landed(await self._lead(lease, lead), led=True)

    async def _lead(self, lease: Lease, lead: Lead) -> Kept:
        beat = asyncio.create_task(self._beat(lease))
        try:
            entry = await lead()
        finally:
            beat.cancel()
            await asyncio.wait({beat})
        await self._journal.write(lease, Stored(_KIND, entry.encode()), OUTCOME_KEPT)
        return entry

    async def _beat(self, lease: Lease) -> None:
        while True:
            await asyncio.sleep(self._ttl / BEATS)
            await self._journal.renew(lease, self._ttl)
