"""Connections: how many there may be, in all and from one address, and how many bytes of requests under way."""

import ipaddress
from collections import Counter
from collections.abc import Callable
from typing import Final

from poise.errors import RateLimitedError, RetryableError
from poise_services.gateway.settings import SMALL_REQUEST_BYTES, HttpLimits

RETRY_AFTER: Final = 1.0
"""Seconds after which a client that was refused for want of room may try again."""
IPV6_PREFIX_BITS: Final = 64
"""Bits of an IPv6 address that name its owner; the rest are the owner's to choose."""

REFUSABLE_CONNECTIONS: Final = 64
"""Connections beyond the limit that are told so at once; more are closed without a word."""

CloseIdle = Callable[[], None]


def peer_key(address: str | None) -> str:
    """What the limits of one peer count by: its IPv4 address, or its IPv6 network."""
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
    """Bytes that were received and belong to requests under way, of all connections together.

    Requests larger than `SMALL_REQUEST_BYTES` share one half of the budget, so that they cannot keep out the others.

    Args:
        total: Bytes.
    """

    def __init__(self, total: int) -> None:
        self.used = 0
        self._total = total

    def has_room(self, count: int, held: int = 0) -> bool:
        """Whether that many more bytes may be taken for a request that holds `held` already."""
        return self.used + count <= (self._total if held + count <= SMALL_REQUEST_BYTES else self._total // 2)

    def reserve(self, count: int, held: int) -> bool:
        """Take bytes for a request that holds `held` already; False = there is no room, and none is taken."""
        if not self.has_room(count, held):
            return False
        self.used += count
        return True

    def release(self, count: int) -> None:
        """Give bytes back."""
        self.used -= count


class Connections:
    """The open connections, and those of them on which no request is under way, longest first.

    Args:
        limits: How many there may be.
        largest_body: Bytes; of any request.
    """

    def __init__(self, limits: HttpLimits, largest_body: int) -> None:
        self.limits = limits
        self.largest_body = largest_body
        self.budget = ByteBudget(limits.bytes_under_way)
        self._open = 0
        self._peers: Counter[str] = Counter()
        self._idle: dict[CloseIdle, str] = {}

    def __len__(self) -> int:
        """How many are open."""
        return self._open

    def add(self, peer: str) -> None:
        """Count a new connection.

        Where all places are taken, the one that has waited for the head of its request for longest makes room: so a
        flood of connections that say nothing keeps nobody out.

        Raises:
            RateLimitedError: Its address has as many as it may, all with requests under way.
            RetryableError: All places are taken, by requests under way. It is counted all the same, until `remove`.
        """
        self._open += 1
        self._peers[peer] += 1
        if self._peers[peer] > self.limits.connections_per_peer and not self._close_idle(peer):
            told = "this address has as many requests under way as it may: try again"
            raise RateLimitedError(told, retry_after=RETRY_AFTER)
        if self._open > self.limits.connections and not self._close_idle():
            raise overloaded("connections")

    def _close_idle(self, peer: str | None = None) -> bool:
        for close, owner in self._idle.items():
            if peer is None or owner == peer:
                del self._idle[close]
                close()
                return True
        return False

    def is_over_capacity(self) -> bool:
        """Whether there are so many that one more is not even told."""
        return self._open > self.limits.connections + REFUSABLE_CONNECTIONS

    def remove(self, peer: str) -> None:
        """Count a connection no more."""
        self._open -= 1
        self._peers[peer] -= 1
        if not self._peers[peer]:
            del self._peers[peer]

    def mark_idle(self, peer: str, close: CloseIdle) -> None:
        """Know a connection on which no request is under way, and how to close it."""
        self._idle.setdefault(close, peer)

    def mark_busy(self, close: CloseIdle) -> None:
        """Its request is there, or it has gone."""
        self._idle.pop(close, None)


def overloaded(what: str) -> RetryableError:
    """The error that there are too many of something: try again."""
    return RetryableError(f"too many {what} are under way: try again", retry_after=RETRY_AFTER)
