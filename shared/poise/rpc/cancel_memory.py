"""Cancel memory: what was cancelled, until its deadline, within bounds. No clock, no IO.

Anyone who may cancel may do so for runs that nobody has. So what is remembered is bounded, and a tenant's cancels push
out its own before they push out another's.
"""

from collections import OrderedDict, defaultdict
from typing import Final, NamedTuple

MAX_CANCELS: Final = 50_000
"""Cancels that a worker remembers at most; beyond it the oldest is forgotten, and its work done for nobody."""
MAX_TENANT_SHARE: Final = 0.5
"""The share of them that may be one tenant's."""
SWEEP_INTERVAL: Final = 1_000
"""Cancels after which those that have expired are dropped."""


class CancelKey(NamedTuple):
    """A run, or one step of it."""

    tenant: str
    run: str
    step: str | None


class RecentCancels:
    """The cancels that count now.

    Args:
        most: How many are remembered.
    """

    def __init__(self, most: int = MAX_CANCELS) -> None:
        self._most = most
        self._known: OrderedDict[CancelKey, tuple[float, float]] = OrderedDict()
        self._tenants: defaultdict[str, OrderedDict[CancelKey, None]] = defaultdict(OrderedDict)
        self._taken = 0

    def __len__(self) -> int:
        """How many are remembered, expired ones among them."""
        return len(self._known)

    def __contains__(self, cancelled: object) -> bool:
        """Whether a cancel is remembered, expired or not."""
        return cancelled in self._known

    def add(self, cancelled: CancelKey, *, until: float, at: float, now: float) -> bool:
        """Remember a cancel.

        Args:
            cancelled: What was cancelled.
            until: Until when it counts, unix seconds.
            at: When it was cancelled, unix seconds.
            now: Unix seconds.

        Returns:
            Whether another one that counts was forgotten for it.
        """
        self._taken += 1
        if self._taken % SWEEP_INTERVAL == 0:
            self._evict_expired(now)
        own = self._tenants[cancelled.tenant]
        self._known[cancelled], own[cancelled] = (until, at), None
        self._known.move_to_end(cancelled)
        own.move_to_end(cancelled)
        forgotten = None
        if len(own) > self._most * MAX_TENANT_SHARE:
            forgotten = self._evict(next(iter(own)))
        elif len(self._known) > self._most:
            forgotten = self._evict(next(iter(self._known)))
        return forgotten is not None and forgotten >= now

    def cancelled_at(self, cancelled: CancelKey, now: float) -> float:
        """When that was cancelled, unix seconds; -1 = it was not, or so long ago that it does not matter."""
        until, at = self._known.get(cancelled, (0.0, -1.0))
        return at if until >= now else -1.0

    def _evict_expired(self, now: float) -> None:
        for cancelled in [one for one, (until, _) in self._known.items() if until < now]:
            self._evict(cancelled)

    def _evict(self, cancelled: CancelKey) -> float:
        until, _ = self._known.pop(cancelled)
        own = self._tenants[cancelled.tenant]
        del own[cancelled]
        if not own:
            del self._tenants[cancelled.tenant]
        return until
