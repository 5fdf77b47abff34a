"""Answer sharing: one of several concurrent identical asks produces the answer; the others wait and share it."""

import time
from typing import Final

from poise.redis.answer_store import CachedAnswer, single_flight_key
from poise_services.orchestration.answer_storage import MODEL_RUNGS
from poise_services.orchestration.cache_lookup import CacheDecision, CacheRequest
from poise_services.orchestration.freshness import Freshness
from poise_services.orchestration.single_flight import Flight, SingleFlight
from poise_services.orchestration.staleness import epoch_reached

WAIT_SHARE: Final = 0.9
"""Fraction of the step budget for which an ask waits for another's answer. In the rest it retrieves passages, and
answers without a model: a model that could answer in that time would have answered the other ask."""
TIME_TOLERANCE: Final = 1.25
"""Factor by which the remaining time must exceed that of a flight to count as more: concurrent asks differ slightly."""


class AnswerSharing:
    """Lets concurrent identical asks share one answer.

    Args:
        flights: The single flights of this worker and, by leases, of the others.
        freshness: Assesses whether another ask's result is still fresh.
        reserve: Fraction of the remaining time that is reserved for the lower rungs (`deadline_reserve`).
        clock_skew: Seconds by which the workers' clocks may differ.
    """

    def __init__(self, flights: SingleFlight, freshness: Freshness, reserve: float, clock_skew: float) -> None:
        self._flights = flights
        self._freshness = freshness
        self._reserve = reserve
        self._clock_skew = clock_skew

    async def join(self, request: CacheRequest) -> tuple[CacheDecision, Flight | None]:
        """Wait for another ask's result, or begin a flight, which the caller must complete."""
        run = request.run

        async def accepts(entry: CachedAnswer, from_other_worker: bool) -> bool:
            return await self._accepts(request, entry, from_other_worker=from_other_worker)

        # An interactive ask does not wait for a batch one; a canned text is in the reader's language.
        key = ":".join((single_flight_key(run.tenant, request.key), run.lane, request.ask.language or ""))
        result = await self._flights.acquire(key, accepts, run.remaining() * (1 - self._reserve) * WAIT_SHARE)
        if isinstance(result, CachedAnswer):
            return CacheDecision(result="shared", draw=request.draw, cached=result, reason=result.answer.reason), None
        skip_model_reason = "another run did not produce it in time" if result is None else None
        decision = CacheDecision(
            result="misses",
            draw=request.draw,
            skip_model_reason=skip_model_reason,
            computation_started_at=time.time(),
        )
        return decision, result

    async def _accepts(self, request: CacheRequest, entry: CachedAnswer, *, from_other_worker: bool) -> bool:
        """Return whether another run's result may be the answer to this ask.

        A result whose production began after this run started includes everything this run could have found. One that
        began earlier must still be fresh, and is shared only with asks written before it was complete: later asks look
        up the cache. A result that no model wrote is not shared with an ask that has more time, in which a model might
        answer.
        """
        run = request.run
        no_cache = request.ask.cache == "no-cache"
        if not epoch_reached(entry.answer.epoch, run.min_epoch):
            return False
        if entry.answer.rung not in MODEL_RUNGS and _has_more_time(run.remaining(), entry.time_available):
            return False
        if no_cache and entry.answer.cached:  # a stale answer was used
            return False
        if entry.computation_started_at - (self._clock_skew if from_other_worker else 0.0) >= run.requested_at:
            return True
        if no_cache or run.written > entry.computed_at:
            return False
        return (await self._freshness.assess(entry, run.remaining())).fresh


def _has_more_time(remaining: float, time_available: float | None) -> bool:
    return time_available is not None and remaining > TIME_TOLERANCE * time_available
