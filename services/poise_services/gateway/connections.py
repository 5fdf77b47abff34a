"""Limits connections, in total and per address, and the bytes of requests in progress."""

import ipaddress
from collections import Counter
from collections.abc import Callable
from typing import Final

from poise.errors import RateLimitedError, RetryableError
from poise_services.gateway.settings import SMALL_REQUEST_BYTES, HttpLimits

RETRY_AFTER: Final = 1.0
"""Seconds after which a client rejected by a limit may retry."""
IPV6_PREFIX_BITS: Final = 64
"""Bits of an IPv6 address that identify its network; its owner chooses the rest."""

MAX_REFUSED_CONNECTIONS: Final = 64
"""Connections beyond the limit that get an error response; further ones are closed without one."""

CloseIdle = Callable[[], None]


def peer_key(address: str | None) -> str:
    """Return the key for per-peer limits: the IPv4 address, or the IPv6 network."""
    try:
        ip = ipaddress.ip_address((address or "").partition("%")[0])
    except ValueError:
        return address or ""
    if ip.version == 4:  # noqa: PLR2004 - IPv4
        return str(ip)
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return str(ipaddress.ip_network((ip, IPV6_PREFIX_BITS), strict=False).network_address)


class ByteBudget:
    """Counts the bytes of requests in progress, of all connections together.

    Requests larger than `SMALL_REQUEST_BYTES` may use one half of the budget only, so that small ones always have room.

    Args:
        total: Size of the budget, bytes.
    """

    def __init__(self, total: int) -> None:
        self.used = 0
        """Bytes reserved now."""
        self._total = total

    def has_room(self, more: int, reserved: int = 0) -> bool:
        """Return whether a request with `reserved` bytes may reserve `more`."""
        budget = self._total if reserved + more <= SMALL_REQUEST_BYTES else self._total // 2
        return self.used + more <= budget

    def reserve(self, more: int, reserved: int) -> bool:
        """Reserve `more` bytes for a request that has `reserved`; return False and reserve none if they do not fit."""
        if not self.has_room(more, reserved):
            return False
        self.used += more
        return True

    def release(self, count: int) -> None:
        """Release reserved bytes."""
        self.used -= count


class Connections:
    """Counts the open connections; closes idle ones at a limit, the longest idle first.

    Args:
        limits: The limits.
        largest_body: Maximum size of the body of any request, bytes.
    """

    def __init__(self, limits: HttpLimits, largest_body: int) -> None:
        self.limits = limits
        self.largest_body = largest_body
        self.budget = ByteBudget(limits.max_inflight_bytes)
        self._open = 0
        self._peers: Counter[str] = Counter()
        self._idle: dict[CloseIdle, str] = {}

    def __len__(self) -> int:
        """Return the number of open connections."""
        return self._open

    def add(self, peer: str) -> None:
        """Count a new connection.

        At the limit, the connection that has been idle longest is closed, so that a flood of silent connections does
        not lock out other clients.

        Raises:
            RateLimitedError: The address is at its limit, and all its connections have requests in progress.
            RetryableError: The gateway is at its limit, and all connections have requests in progress. The connection
                is counted nevertheless, until `remove`.
        """
        self._open += 1
        self._peers[peer] += 1
        if self._peers[peer] > self.limits.max_connections_per_peer and not self._close_idle(peer):
            message = "this address has its maximum of requests in progress: try again"
            raise RateLimitedError(message, retry_after=RETRY_AFTER)
        if self._open > self.limits.max_connections and not self._close_idle():
            raise overloaded("connections")

    def _close_idle(self, peer: str | None = None) -> bool:
        for close, owner in self._idle.items():
            if peer is None or owner == peer:
                del self._idle[close]
                close()
                return True
        return False

    def is_over_capacity(self) -> bool:
        """Return whether there are too many connections to send another error response."""
        return self._open > self.limits.max_connections + MAX_REFUSED_CONNECTIONS

    def remove(self, peer: str) -> None:
        """Stop counting a connection."""
        self._open -= 1
        self._peers[peer] -= 1
        if not self._peers[peer]:
            del self._peers[peer]

    def mark_idle(self, peer: str, close: CloseIdle) -> None:
        """Register a connection without a request in progress, and how to close it."""
        self._idle.setdefault(close, peer)

    def mark_busy(self, close: CloseIdle) -> None:
        """Unregister an idle connection: it has a request, or was closed."""
        self._idle.pop(close, None)


def overloaded(what: str) -> RetryableError:
    """Return the error for a reached limit."""
    return RetryableError(f"too many {what} in progress: try again", retry_after=RETRY_AFTER)
