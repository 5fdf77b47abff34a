"""Retrieval, with fallbacks: hybrid search → sparse search only → passages cached for the same question → none.

The retrieval tier does the first two and reports which it used; this module does the other two.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

from poise.contracts import Ask, Passage, Passages, Retrieve, Search
from poise.contracts.headers import MIN_EPOCH
from poise.errors import FaultError, PoiseError
from poise.redis.passage_store import CachedPassages, PassageStore
from poise.workflows.run import Run
from poise_services.orchestration.breakers import Breakers
from poise_services.orchestration.cache_keys import document_id
from poise_services.orchestration.document_versions import DocumentVersions
from poise_services.orchestration.staleness import epoch_reached
from poise_services.orchestration.time_budget import fair_share

RETRIEVE_STEP: Final = "retrieve"


@dataclass(frozen=True, slots=True)
class Retrieved:
    """The passages that an answer is produced from."""

    passages: tuple[Passage, ...] = ()
    epoch: str | None = None
    mode: Search = "none"
    error: str | None = None
    """Why there are no passages; None = there are some."""
    failed: bool = False
    """Whether retrieval failed, as opposed to finding nothing."""
    warnings: tuple[str, ...] = ()
    """What failed or was degraded, for the answer's field `degraded`."""
    cacheable: Passages | None = None
    """The reply of retrieval, to be cached; None = it failed."""


class Retriever:
    """Retrieves passages for asks.

    Args:
        store: Passages of earlier asks.
        limit: Number of passages to retrieve.
        breakers: Has the circuit breaker of the retrieval tier.
        versions: The documents' versions; None = unknown.
    """

    def __init__(
        self, store: PassageStore, limit: int, breakers: Breakers, versions: DocumentVersions | None = None
    ) -> None:
        self._store = store
        self._versions = versions
        self._guard = partial(breakers.guarded, RETRIEVE_STEP)
        self._limit = limit

    async def retrieve(self, run: Run, ask: Ask, max_variants: int) -> Retrieved:
        """Retrieve passages; if that fails, return those of an earlier ask.

        Args:
            run: The run.
            ask: The ask.
            max_variants: How many variants may be asked afterwards. Retrieval takes an equal share of the time, so that
                each of them has as much. It may take all of it if no cached passages can replace its result: there is
                no cache, or an epoch is requested, which cached passages have hardly reached.

        Raises:
            FaultError: No index will ever reach the requested epoch: the caller's mistake.
        """
        request = Retrieve(query=ask.question, limit=self._limit)
        replaceable = self._store.configured and run.min_epoch is None
        budget = fair_share(run.step_budget(), max_variants if replaceable else 0)
        try:
            reply = await run.call(request, id=RETRIEVE_STEP, timeout=budget, guard=self._guard)
        except PoiseError as error:
            if _rejects_epoch(error):
                raise
            reason = describe_error("retrieval", error)
            return await self._load_earlier(run, ask, reason) or Retrieved(error=reason, failed=True)
        missing = None if reply.passages else "retrieval found nothing"
        warnings = (f"retrieval: {reply.reason}",) if reply.reason else ()
        return Retrieved(reply.passages, reply.epoch, reply.mode, missing, warnings=warnings, cacheable=reply)

    async def _load_earlier(self, run: Run, ask: Ask, reason: str) -> Retrieved | None:
        stored: CachedPassages | None = await run.step(
            "passages", partial(self._load, run, ask), returns=CachedPassages | None, id="passages", in_run_record=False
        )
        if stored is None or not stored.reply.passages or not epoch_reached(stored.reply.epoch, run.min_epoch):
            return None
        age = max(0.0, run.requested_at - stored.retrieved_at)
        passages = tuple(p.model_copy(update={"age": p.age + age}) for p in stored.reply.passages)
        warning = f"{reason}; passages found {_format_duration(age)} ago are used instead"
        return Retrieved(passages, stored.reply.epoch, "cached", warnings=(warning,))

    async def _load(self, run: Run, ask: Ask) -> CachedPassages | None:
        """Load the passages of an earlier ask, without those of documents known to be deleted since."""
        stored = await self._store.get(run.tenant, ask.question, self._limit)
        if stored is None or self._versions is None or not await self._versions.sync(run.step_budget()):
            return stored
        passages = tuple(p for p in stored.reply.passages if not self._versions.is_deleted(document_id(p.id)))
        return stored.model_copy(update={"reply": stored.reply.model_copy(update={"passages": passages})})

    @asynccontextmanager
    async def cache_in_background(self, run: Run, ask: Ask, retrieved: Retrieved) -> AsyncIterator[None]:
        """Cache the passages while the block runs, which generates the answer and takes longer.

        An empty result is cached too, so that it replaces passages that were deleted since.
        """
        if retrieved.cacheable is None:
            yield
            return
        stored = CachedPassages(retrieved_at=time.time(), reply=retrieved.cacheable)
        task = asyncio.create_task(self._store.put(run.tenant, ask.question, self._limit, stored))
        try:
            yield
            await task
        finally:
            task.cancel()


def _rejects_epoch(error: PoiseError) -> bool:
    return isinstance(error, FaultError) and any(item.field == MIN_EPOCH for item in error.fault().errors)


def _format_duration(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def describe_error(step: str, error: PoiseError) -> str:
    """Describe the failure of a step for the reader of an answer."""
    if isinstance(error, FaultError):
        fault = error.fault()
        return f"{step} failed: {fault.title.lower()}: {fault.detail}"
    return f"{step} failed: {error}"
