"""The lease holder of one worker: acquires leases, renews them until they end, and releases them."""

import asyncio
import itertools
from collections.abc import Iterator
from types import TracebackType
from typing import Final, Self
from uuid import uuid4

from poise.liveness import Component, Liveness
from poise.redis.lease_store import Lease, LeaseStatus, LeaseStore, StoredReply

RENEWALS_PER_TTL: Final = 3
"""How often a lease is renewed before it would expire."""
MIN_POLL_INTERVAL: Final = 0.02
"""Seconds before the first poll of a lease that is held elsewhere; the interval doubles after each poll."""
MAX_POLL_INTERVAL: Final = 0.25
"""Maximum number of seconds between two polls."""


class LeaseHolder:
    """Holds leases; `async with`, for the heartbeat that renews them.

    A holder that stalls for longer than the lease (a stopped process, a blocked event loop) loses it to another worker.
    When it continues, Redis refuses its writes, because its token no longer holds the key.

    Args:
        store: Stores the leases, and the results that replace them.
        ttl: Seconds for which a lease is valid without a renewal.
        liveness: Supervises the heartbeat.
    """

    def __init__(self, store: LeaseStore, ttl: float, liveness: Liveness) -> None:
        self.ttl = ttl
        self.renewing: set[Lease] = set()
        """The leases that the heartbeat renews, and those that others hold, until `release`."""
        self._store = store
        self._prefix = uuid4().hex
        self._numbers = itertools.count(1)
        self._liveness = liveness
        self._component: Component | None = None
        self._heartbeat: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Start the heartbeat, if Redis is configured."""
        if self.configured:
            self._component = self._liveness.component("heartbeat of leases", stalls_after=RENEWALS_PER_TTL * self.ttl)
            self._heartbeat = self._component.run(self._renew_all(self._component))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop the heartbeat."""
        if self._component is not None:
            self._component.close()
        if self._heartbeat is not None:
            self._heartbeat.cancel()
            await asyncio.wait({self._heartbeat})

    @property
    def configured(self) -> bool:
        """Whether Redis is configured, reachable or not."""
        return self._store.configured

    def new_token(self) -> str:
        """Return a token that no other lease has."""
        return f"{self._prefix}.{next(self._numbers)}"

    async def acquire(self, lease: Lease) -> LeaseStatus | StoredReply:
        """Try to acquire a lease; return its status, or the result stored in its place.

        The heartbeat renews the lease until `release` or `stop_renewing` is called, whatever this call returns: the
        reply of Redis may be lost although the lease was acquired.
        """
        self.renewing.add(lease)
        return await self._store.acquire(lease, self.ttl)

    async def store(self, lease: Lease, result: StoredReply, ttl: float) -> LeaseStatus | StoredReply:
        """Replace a lease by its result for `ttl` seconds; refused if another worker holds the lease by now.

        The caller must also call `stop_renewing`: otherwise the heartbeat keeps trying to renew the lease.
        """
        return await self._store.store(lease, result, ttl)

    async def discard(self, lease: Lease, stored: StoredReply) -> None:
        """Delete a stored result if it is unchanged, so that the lease can be acquired."""
        await self._store.discard(lease, stored)

    def stop_renewing(self, lease: Lease) -> None:
        """Stop renewing a lease, without a round trip."""
        self.renewing.discard(lease)

    async def release(self, lease: Lease) -> None:
        """Release a lease if it is ours."""
        self.stop_renewing(lease)
        await self._store.release(lease)

    async def _renew_all(self, component: Component) -> None:
        # One heartbeat for all leases: one that ends before the next heartbeat costs no renewal.
        while True:
            await asyncio.sleep(self.ttl / RENEWALS_PER_TTL)
            await asyncio.gather(*(self._store.renew(lease, self.ttl) for lease in self.renewing))
            component.progress()


def poll_intervals() -> Iterator[float]:
    """Yield the seconds between polls of a lease that is held elsewhere."""
    interval = MIN_POLL_INTERVAL
    while True:
        yield interval
        interval = min(2 * interval, MAX_POLL_INTERVAL)
