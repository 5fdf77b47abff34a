"""Recent cancels: the cancelled runs and steps that have not expired, within bounds. No clock, no I/O.

A client that may cancel can cancel runs that do not exist. So the number of cancels is bounded, and a tenant that
exceeds its share evicts its own cancels before those of another tenant.
"""

from collections import OrderedDict, defaultdict
from typing import Final, NamedTuple

MAX_CANCELS: Final = 50_000
"""Cancels that a worker remembers at most; beyond this the oldest is evicted, and its work is not cancelled."""
MAX_TENANT_SHARE: Final = 0.5
"""The share of them that one tenant may have."""
SWEEP_INTERVAL: Final = 1_000
"""Added cancels after which the expired ones are evicted."""


class CancelKey(NamedTuple):
    """A run, or one step of it."""

    tenant: str
    run: str
    step: str | None


class RecentCancels:
    """The cancels that have not expired.

    Args:
        max_cancels: Cancels to remember at most.
    """

    def __init__(self, max_cancels: int = MAX_CANCELS) -> None:
        self._max = max_cancels
        self._cancels: OrderedDict[CancelKey, tuple[float, float]] = OrderedDict()
        self._tenants: defaultdict[str, OrderedDict[CancelKey, None]] = defaultdict(OrderedDict)
        self._added = 0

    def __len__(self) -> int:
        """Return the number of cancels, expired ones included."""
        return len(self._cancels)

    def __contains__(self, cancelled: object) -> bool:
        """Return whether a cancel is remembered, expired or not."""
        return cancelled in self._cancels

    def add(self, cancelled: CancelKey, *, until: float, at: float, now: float) -> bool:
        """Add a cancel.

        Args:
            cancelled: The cancelled run or step.
            until: When the cancel expires, Unix seconds.
            at: When the cancel was written, Unix seconds.
            now: Unix seconds.

        Returns:
            Whether a cancel that has not expired was evicted.
        """
        self._added += 1
        if self._added % SWEEP_INTERVAL == 0:
            self._evict_expired(now)
        own = self._tenants[cancelled.tenant]
        self._cancels[cancelled], own[cancelled] = (until, at), None
        self._cancels.move_to_end(cancelled)
        own.move_to_end(cancelled)
        evicted = None
        if len(own) > self._max * MAX_TENANT_SHARE:
            evicted = self._evict(next(iter(own)))
        elif len(self._cancels) > self._max:
            evicted = self._evict(next(iter(self._cancels)))
        return evicted is not None and evicted >= now

    def cancelled_at(self, cancelled: CancelKey, now: float) -> float:
        """Return when a run or step was cancelled, in Unix seconds; -1 = it was not, or the cancel has expired."""
        until, at = self._cancels.get(cancelled, (0.0, -1.0))
        return at if until >= now else -1.0

    def _evict_expired(self, now: float) -> None:
        for cancelled in [key for key, (until, _) in self._cancels.items() if until < now]:
            self._evict(cancelled)

    def _evict(self, cancelled: CancelKey) -> float:
        until, _ = self._cancels.pop(cancelled)
        own = self._tenants[cancelled.tenant]
        del own[cancelled]
        if not own:
            del self._tenants[cancelled.tenant]
        return until
