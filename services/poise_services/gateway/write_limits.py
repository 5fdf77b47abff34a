"""Rate limits for cheap writes with a lasting cost, per client and in total.

Deletions, cancels and feedback are accepted whether or not the document or run exists.
"""

import time
from typing import Final

from fastapi import Request, Response

from poise.errors import RateLimitedError
from poise.resilience.token_bucket import KeyedTokenBuckets
from poise_services.gateway.connections import peer_key
from poise_services.gateway.http_handler import HttpHandler
from poise_services.gateway.settings import HttpLimits

BURST_SECONDS: Final = 10.0
"""Burst size, in seconds of the rate."""
_HOUR: Final = 3_600.0


class WriteRateLimiter:
    """Limits the rate of write requests.

    Args:
        limits: The rates.
    """

    def __init__(self, limits: HttpLimits) -> None:
        per_peer, total = limits.writes_per_second_per_peer, limits.writes_per_second
        self._writes = KeyedTokenBuckets((per_peer, per_peer * BURST_SECONDS), (total, total * BURST_SECONDS))
        hourly = limits.unknown_cancels_per_hour
        self._unknown_cancels = KeyedTokenBuckets(
            (hourly / 10 / _HOUR, max(1.0, hourly / 10)), (hourly / _HOUR, hourly)
        )

    def limit(self, handler: HttpHandler) -> HttpHandler:
        """Return the handler with a rate limit.

        Raises:
            RateLimitedError: The limit is reached; `retry_after` says when to retry.
        """

        async def guarded(request: Request) -> Response:
            _check_rate(self._writes, request, "deletions, cancels and feedback")
            return await handler(request)

        return guarded

    def count_unknown_cancel(self, request: Request) -> None:
        """Count a cancel of a run that this gateway did not start: every worker remembers it for hours.

        Raises:
            RateLimitedError: The limit is reached; `retry_after` says when to retry.
        """
        _check_rate(self._unknown_cancels, request, "cancels of runs that are not running here")


def _check_rate(buckets: KeyedTokenBuckets, request: Request, what: str) -> None:
    """Count a request of a client; raise RateLimitedError beyond its rate."""
    peer = peer_key(request.client.host if request.client else None)
    if wait := buckets.take_or_delay(peer, time.monotonic()):
        raise RateLimitedError(f"too many {what}: try again in {wait:.0f} s", retry_after=wait)
