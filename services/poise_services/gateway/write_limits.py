"""Write limits: requests that cost a client nothing and the mesh something for long, so many of each client and of all.

Deleting a document, cancelling a run and giving feedback are accepted whether or not there is such a document or run.
"""

import time
from collections.abc import Awaitable, Callable
from typing import Final

from fastapi import Request, Response

from poise.errors import RateLimitedError
from poise.resilience.token_bucket import KeyedTokenBuckets
from poise_services.gateway.connections import peer_key
from poise_services.gateway.settings import HttpLimits

BURST_SECONDS: Final = 10.0
"""Seconds' worth of writes that may come at once."""
_HOUR: Final = 3_600.0

HttpHandler = Callable[[Request], Awaitable[Response]]


class WriteRateLimiter:
    """Lets requests through as long as their client, and all together, have not made too many.

    Args:
        limits: How many.
    """

    def __init__(self, limits: HttpLimits) -> None:
        own, every = limits.writes_per_peer, limits.writes
        self._writes = KeyedTokenBuckets((own, own * BURST_SECONDS), (every, every * BURST_SECONDS))
        most = limits.unknown_cancels
        self._unknown = KeyedTokenBuckets((most / 10 / _HOUR, max(1.0, most / 10)), (most / _HOUR, most))

    def limit(self, handler: HttpHandler) -> HttpHandler:
        """The handler, for so many requests.

        Raises:
            RateLimitedError: There were too many lately; says when to come again.
        """

        async def guarded(request: Request) -> Response:
            _take(self._writes, request, "deletions, cancels and feedback")
            return await handler(request)

        return guarded

    def count_unknown_cancel(self, request: Request) -> None:
        """Count a cancel of a run that is not under way here: every worker remembers it for hours.

        Raises:
            RateLimitedError: There were too many lately; says when to come again.
        """
        _take(self._unknown, request, "cancels of runs that are not under way here")


def _take(buckets: KeyedTokenBuckets, request: Request, what: str) -> None:
    peer = peer_key(request.client.host if request.client else None)
    if wait := buckets.take(peer, time.monotonic()):
        raise RateLimitedError(f"too many {what}: try again in {wait:.0f} s", retry_after=wait)
