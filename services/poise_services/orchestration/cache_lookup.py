"""Cache look-up: finds the stored answer to an ask, and decides whether it may be sent, fresh or stale."""

import time
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from poise.contracts import Ask, Draw
from poise.redis.answer_store import AnswerStore, CachedAnswer, LookupResult
from poise.workflows.run import Run
from poise_services.orchestration.cache_hints import EarlierAnswer
from poise_services.orchestration.cache_keys import answer_key
from poise_services.orchestration.freshness import Freshness
from poise_services.orchestration.revalidation import Revalidator
from poise_services.orchestration.settings import OrchestrationSettings, Variant
from poise_services.orchestration.staleness import epoch_reached
from poise_services.orchestration.user_workflows import DEFAULT_WORKFLOW


@dataclass(frozen=True, slots=True)
class CacheRequest:
    """An ask, and the key of its answer."""

    run: Run
    ask: Ask
    draw: Draw
    variant: Variant
    """The variant whose answer is looked up or stored: the drawn one, or the author of an answer to store."""
    key: str

    @property
    def may_look_up(self) -> bool:
        """Whether the ask permits a stored answer: it has neither `no-cache` nor `no-store`."""
        return self.ask.cache is None

    @classmethod
    def of(cls, run: Run, ask: Ask, draw: Draw, variant: Variant, settings: OrchestrationSettings) -> "CacheRequest":
        """Build the request for the answer of a variant."""
        key = answer_key(run.tenant, ask.workflow or DEFAULT_WORKFLOW, ask.question, variant, settings)
        return cls(run, ask, draw, variant, key)


class CacheDecision(BaseModel):
    """How an ask is answered. Stored in the run's journal."""

    model_config = ConfigDict(frozen=True, validate_by_name=True, serialize_by_alias=True)

    result: LookupResult
    draw: Draw
    """The variant drawn: its cache group is part of the key, and it is asked first."""
    cached: CachedAnswer | None = None
    """The answer to another ask; None = produce one."""
    reason: str | None = None
    """Why its rung is not `primary`."""
    skip_model_reason: str | None = None
    """Why no model is asked."""
    computation_started_at: float = Field(default=0.0, alias="began")  # the name in journals
    """When the production of an answer that was not found began, unix seconds."""


class CacheLookup:
    """Looks up stored answers.

    Args:
        store: The stored answers.
        freshness: Assesses whether they are still fresh.
        revalidator: Refreshes stale ones.
    """

    def __init__(self, store: AnswerStore, freshness: Freshness, revalidator: Revalidator) -> None:
        self._store = store
        self._freshness = freshness
        self._revalidator = revalidator

    async def find(self, request: CacheRequest) -> CacheDecision | None:
        """Return the stored answer if it may be sent: fresh, or stale while it is refreshed."""
        entry = await self._load(request)
        if entry is None:
            return None
        staleness = await self._freshness.assess(entry, request.run.remaining())
        if staleness.fresh:
            return CacheDecision(result="hits", draw=request.draw, cached=entry)
        if not self._freshness.servable_while_revalidating(staleness):
            return None
        await self._revalidator.start(request.run.tenant, request.ask, request.key, entry)
        reason = f"{staleness.reason}; it is being refreshed"
        return CacheDecision(result="stale", draw=request.draw, cached=entry, reason=reason)

    async def reassess(self, request: CacheRequest, decision: CacheDecision) -> CacheDecision:
        """Return a decision from the run's journal; an answer that has become stale since is marked.

        It is sent even if one of its documents was deleted, because the journal has the steps that the run took after
        the decision.
        """
        if decision.cached is None:
            return decision
        staleness = await self._freshness.assess(decision.cached, request.run.remaining())
        if staleness.fresh or decision.result == "stale":
            return decision
        return decision.model_copy(update={"result": "stale", "reason": staleness.reason})

    async def stale_fallback(self, request: CacheRequest) -> EarlierAnswer | None:
        """Return the stored answer for the rung `stale`, if it may be used there."""
        entry = await self._load(request) if request.may_look_up else None
        if entry is None:
            return None
        staleness = await self._freshness.assess(entry, request.run.remaining())
        if not staleness.fresh and not self._freshness.servable_if_error(staleness):
            return None
        answer = entry.answer
        return EarlierAnswer(
            text=answer.text,
            citations=answer.citations,
            variant=answer.variant,
            epoch=answer.epoch,
            age=max(0.0, time.time() - entry.computed_at),
            reason=staleness.reason or "another run has just produced it",
        )

    async def _load(self, request: CacheRequest) -> CachedAnswer | None:
        entry = await self._store.get(request.run.tenant, request.key)
        if entry is None or not epoch_reached(entry.answer.epoch, request.run.min_epoch):
            return None
        return entry
