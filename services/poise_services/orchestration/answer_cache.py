"""The answer cache: answers an ask with the answer to an earlier identical one while its documents are unchanged.

1. Look up. An entry whose epoch is below the requested one is ignored.
2. Fresh (all documents that it depends on are unchanged, and it is not too old): sent as it is, with its age.
3. Stale for at most `stale_while_revalidate`: sent as rung `stale` with the change as its reason, and refreshed by an
   ask on the batch lane (`revalidation.py`).
4. Else the answer is produced, once for all concurrent identical asks (`answer_sharing.py`). It is stored if it passed
   its check (`answer_storage.py`). A stale entry may be used as a rung of the ladder for at most `stale_if_error`.

How changes are detected: `DocumentVersions.sync` first reads all versions announced before the call. Then each
document's digest is compared with the digest of the version that the answer was made from.

- A document changes while an answer is produced. Its version is announced, then the index shows it. An answer from
  the version before is not stored, because that version's digest is no longer the document's. A worker that reads the
  log late may store it, but with the old digest, so the first look-up finds it stale.
- A new version has the same content (ingested again): same digest, nothing becomes stale.
- A run is replayed after a crash, and its journal says to send a fresh answer. Freshness is assessed once more. If the
  answer is no longer fresh it is sent as `stale`, because the journal also has the steps that the run took after it.
- The log cannot be read: everything counts as stale. `poise.documents` is not the topic of the epoch: stale.

A stale answer always has the rung `stale`. An answer that depends on a deleted document is not sent, except in a replay
whose journal says to send it; it is then marked as `stale`.
`no-cache` skips the look-up and shares only results whose production began after the ask. `no-store` does not look up,
store or share.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from poise.contracts import Answer, Ask, Draw
from poise.redis.answer_store import AnswerStore, CachedAnswer
from poise.redis.lease_store import LeaseStore
from poise.telemetry import count, semconv, span
from poise.worker.runtime import WorkerRuntime
from poise.workflows.run import Run
from poise_services.orchestration.active_policy import PolicyFollower
from poise_services.orchestration.answer_sharing import AnswerSharing
from poise_services.orchestration.answer_storage import AnswerStorage
from poise_services.orchestration.cache_hints import CacheHints
from poise_services.orchestration.cache_lookup import CacheDecision, CacheLookup, CacheRequest
from poise_services.orchestration.document_versions import DocumentVersions
from poise_services.orchestration.freshness import Freshness
from poise_services.orchestration.revalidation import Revalidator
from poise_services.orchestration.settings import OrchestrationSettings
from poise_services.orchestration.single_flight import Flight, SingleFlight


class AnswerCache:
    """The answer cache of a worker.

    Args:
        runtime: Provides the worker's Redis, leases and producer.
        settings: The tier's settings.
        versions: The documents' versions.
        policy_follower: Has the policy in force; None = the settings' weights.
    """

    def __init__(
        self,
        runtime: WorkerRuntime,
        settings: OrchestrationSettings,
        versions: DocumentVersions,
        policy_follower: PolicyFollower | None = None,
    ) -> None:
        self.settings = settings
        self.policy_follower = policy_follower or PolicyFollower(settings)
        self.store = AnswerStore(runtime.redis, settings.cache.max_entries)
        freshness = Freshness(versions, settings)
        self.lookup = CacheLookup(
            self.store, freshness, Revalidator(runtime.producer, LeaseStore(runtime.redis), versions)
        )
        flights = SingleFlight(runtime.leases)
        self.sharing = AnswerSharing(flights, freshness, settings.ladder.deadline_reserve, runtime.settings.clock_skew)
        self.storage = AnswerStorage(self.store, versions, settings)

    @asynccontextmanager
    async def open(self, run: Run, ask: Ask) -> AsyncIterator["CacheSession"]:
        """Decide how an ask is answered; on exit, give the result to the asks that wait for it."""
        session = CacheSession(self, run, ask)
        try:
            await session.decide()
            yield session
        finally:
            await session.complete_flight()


class CacheSession:
    """One ask's use of the cache: its look-up, its single flight, and the storing of its answer."""

    def __init__(self, cache: AnswerCache, run: Run, ask: Ask) -> None:
        self._cache = cache
        self._run = run
        self._ask = ask
        self._flight: Flight | None = None  # None if another ask leads, and in a replay
        self._result: CachedAnswer | None = None  # for the asks that wait, stored or not
        self.request: CacheRequest
        self.decision: CacheDecision

    @property
    def cached(self) -> CachedAnswer | None:
        """The answer to send; None = produce one."""
        return self.decision.cached

    @property
    def hints(self) -> CacheHints:
        """The hints for the production of the answer."""
        return CacheHints(
            lambda: self._cache.lookup.stale_fallback(self.request),
            self.decision.skip_model_reason,
            self.request.draw,
        )

    async def decide(self) -> None:
        """Decide in a step of the run, because a replay would decide differently."""
        decided_now = False

        async def decide() -> CacheDecision:
            nonlocal decided_now
            decided_now = True
            self.request = self._request(self._cache.policy_follower.current.draw(self._run.id))
            with span(semconv.CACHE_LOOKUP):
                decision = await self._cache.lookup.find(self.request) if self.request.may_look_up else None
                return decision or await self._join_flight()  # may wait; the span has the time

        self.decision = await self._run.step("cache", decide, returns=CacheDecision, id="cache", in_run_record=False)
        if not decided_now:
            self.request = self._request(self.decision.draw)
            self.decision = await self._cache.lookup.reassess(self.request, self.decision)

    async def _join_flight(self) -> CacheDecision:
        decision, self._flight = await self._cache.sharing.join(self.request)
        return decision

    def _request(self, draw: Draw) -> CacheRequest:
        draw, variant = self._cache.policy_follower.current.resolve(draw, self._run.id)
        return CacheRequest.of(self._run, self._ask, draw, variant, self._cache.settings)

    async def store(self, answer: Answer) -> None:
        """Store an answer if it may be stored, and keep it for the asks that wait for it."""
        self._result = await self._cache.storage.store(self.request, answer, self.decision.computation_started_at)

    async def complete_flight(self) -> None:
        """Give the answer to the asks that wait for it; without one, let another ask produce it."""
        if self._flight is not None:
            await self._flight.complete(self._result)

    async def count_lookup(self, answer: Answer) -> None:
        """Count the result of the look-up, and the seconds that it saved."""
        if not self.request.may_look_up:
            return
        result = self.decision.result
        saved = 0.0
        if self.cached is not None:
            saved = (self.cached.duration_ms - answer.timings["total"]) / 1_000
        elif answer.rung == "stale":
            result = "stale"
        count(semconv.CACHE_LOOKUPS, 1, {semconv.CACHE_USE: result})
        count(semconv.CACHE_SAVED, max(0.0, saved))
        await self._cache.store.count(self._run.tenant, result, saved)
