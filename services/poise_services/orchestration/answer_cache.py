"""Caching: an ask is answered with what was worked out for an earlier one, while the documents say what they said.

1. Look. An answer whose epoch has not come to the one that is asked for is left alone.
2. Fresh (every document that it rests on says what it said, and it is not too old): sent as it is, with its age.
3. Stale, for no longer than `stale_while_revalidate`: sent as rung `stale`, which says what changed, and worked out
   anew by an ask of its own on the batch lane.
4. Else it is worked out, once for all who ask the same at the same time (`flights`). What passed its check is kept. A
   stale one may stand in as a rung of the ladder, for no longer than `stale_if_error`.

How it is known that nothing changed: `DocumentVersions.sync` first learns all that was announced before it was
called, then each document's digest is compared with that of the version that the answer was made from.

- A document changes while an answer is worked out. Its version is announced; then the index shows it. An answer from
  the version before is not kept, for the digest of that version is not the document's any more; were it kept by a
  worker that reads the log late, it would be with that digest, and the first look would find it stale.
- A version says what the one before said (ingested again): same digest, nothing is stale.
- A run is begun again after a crash, and finds in its history that a fresh answer was to be sent. Whether it still is
  is asked once more; if not, it is sent as `stale`, for what the run did after it is in its history too.
- The log cannot be read: everything counts as stale. `poise.documents` is another one than the epoch is of: stale.

A stale answer shows itself: its rung is `stale`. One that rests on a document which was deleted is not sent at all.
`no-cache` does not look, and takes part only in flights that begin after it; `no-store` neither looks nor keeps nor
shares.
"""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final
from uuid import NAMESPACE_OID, uuid4, uuid5

from pydantic import BaseModel, ConfigDict

from poise.contracts import Answer, Ask, Draw, Envelope
from poise.contracts.topics import RUNS_BATCH
from poise.redis.answer_store import Answers, CachedAnswer, Dependency, Use, flight_key
from poise.redis.step_results import ClaimStatus, Lease, StepResultStore
from poise.telemetry import count, current_span, measure, semconv, span
from poise.worker.runtime import WorkerRuntime
from poise.workflows.run import Run
from poise_services.orchestration.active_policy import Policies
from poise_services.orchestration.cache_hints import NO_CACHE, CacheHints, StaleAnswer
from poise_services.orchestration.cache_keys import answer_key, document_id
from poise_services.orchestration.document_versions import DocumentVersions
from poise_services.orchestration.integrations import PASSAGE_ID_PREFIX
from poise_services.orchestration.settings import OrchestrationSettings, Variant
from poise_services.orchestration.single_flight import Flight, SingleFlight
from poise_services.orchestration.staleness import UNKNOWN, Staleness, assess, epoch_reached

WAIT_SHARE: Final = 0.9
"""The share of the time for steps that an ask waits for another one which works the same out. In the rest it finds
passages itself and answers from them, without a model: if a model could answer in that time, it would have."""
REVALIDATION_INTERVAL: Final = 30.0
"""Seconds after which a stale answer that was to be worked out anew, and is still stale, is to be worked out again."""
MODEL_RUNGS: Final = frozenset({"primary", "variant"})
"""The rungs of which a model wrote the answer."""
TIME_TOLERANCE: Final = 1.25
"""How many times the time that a flight had is more: those who ask at once do not have exactly the same."""
ASK_STEP: Final = "ask"


Work = Callable[[Run, Ask, CacheHints], Awaitable[Answer]]
"""Works an answer out."""


@dataclass(frozen=True, slots=True)
class CacheRequest:
    """One ask, and what it looks for."""

    run: Run
    ask: Ask
    drawn: Draw
    variant: Variant
    """The one that is drawn for it."""
    key: str


class CacheDecision(BaseModel):
    """How an ask is answered: a step of its run, for it would not be decided the same way twice."""

    model_config = ConfigDict(frozen=True)

    use: Use
    drawn: Draw
    """The variant that was drawn: by its family an answer is looked for, and it is the first to be asked."""
    kept: CachedAnswer | None = None
    """The answer that was worked out for another ask; None = it is worked out by this one."""
    reason: str | None = None
    """Why its rung is not the first."""
    unasked: str | None = None
    """Why no model is asked."""
    at: float = 0.0
    """When that was decided, unix seconds: nothing was found before."""


class AnswerCache:
    """Answers asks with the help of what was answered before.

    Args:
        mesh: The mesh.
        settings: The tier's.
        versions: What documents say.
        work: Works an answer out.
        policies: Which weights are in force; None = the settings'.
    """

    def __init__(
        self,
        mesh: WorkerRuntime,
        settings: OrchestrationSettings,
        versions: DocumentVersions,
        work: Work,
        policies: Policies | None = None,
    ) -> None:
        self._mesh = mesh
        self._settings = settings
        self._limits = settings.cache
        self._versions = versions
        self._work = work
        self._policies = policies or Policies(settings)
        self._journal = StepResultStore(mesh.redis)
        self._answers = Answers(mesh.redis, settings.cache.max_entries)
        self._flights = SingleFlight(self._journal, mesh.settings.lease)

    async def answer(self, run: Run, ask: Ask) -> Answer:
        """Answer an ask: see this module."""
        if ask.cache == "no-store":
            return await self._work(run, ask, NO_CACHE)
        flights: list[Flight] = []
        made: CachedAnswer | None = None
        decided_now: list[CacheRequest] = []

        async def decide() -> CacheDecision:
            wanted = self._wanted(run, ask, self._policies.current.draw(run.id))
            decided_now.append(wanted)
            return await self._decide(wanted, flights)

        try:
            decided: CacheDecision = await run.step("cache", decide, returns=CacheDecision, id="cache", recorded=False)
            wanted = decided_now[0] if decided_now else self._wanted(run, ask, decided.drawn)
            if decided.kept is not None:
                return await self._send(
                    wanted, decided.kept, decided if decided_now else await self._found(run, decided.kept, decided)
                )
            answer = await self._work(run, ask, CacheHints(lambda: self._stale(wanted), decided.unasked, wanted.drawn))
            made = await self._keep(wanted, answer, decided.at)
        finally:  # a run that was begun before has no flight: it lost it to another, or nobody else asks
            for flight in flights:
                await flight.complete(made)
        await self._count(wanted, "stale" if answer.rung == "stale" else decided.use)
        return answer

    def _wanted(self, run: Run, ask: Ask, drawn: Draw) -> CacheRequest:
        drawn, variant = self._policies.current.resolve(drawn, run.id)
        return CacheRequest(run, ask, drawn, variant, self._key(run, ask, variant))

    def _key(self, run: Run, ask: Ask, variant: Variant) -> str:
        return answer_key(run.tenant, ask.workflow or "answer", ask.question, variant, self._settings)

    # -- 1 look  2 fresh  3 stale ---------------------------------------------------------------------------------

    async def _decide(self, wanted: CacheRequest, flights: list[Flight]) -> CacheDecision:
        with span(semconv.LOOK):
            decided = await self._looked(wanted) if wanted.ask.cache is None else None
            return decided or await self._boarded(wanted, flights)

    async def _looked(self, wanted: CacheRequest) -> CacheDecision | None:
        """What was kept, if it may be sent."""
        run = wanted.run
        kept = await self._answers.look(run.tenant, wanted.key)
        if kept is None or not epoch_reached(kept.answer.epoch, run.min_epoch):
            return None
        aged = await self._aged(kept, run.remaining())
        if aged.fresh:
            return CacheDecision(use="hits", drawn=wanted.drawn, kept=kept)
        if not self._allowed(aged, self._limits.stale_while_revalidate):
            return None
        await self._revalidate(wanted, kept)
        return CacheDecision(
            use="stale", drawn=wanted.drawn, kept=kept, reason=f"{aged.why}; it is being worked out anew"
        )

    async def _found(self, run: Run, kept: CachedAnswer, decided: CacheDecision) -> CacheDecision:
        """A decision that was found in the run's history, for what has changed since."""
        aged = await self._aged(kept, run.remaining())
        if aged.fresh or decided.use == "stale":
            return decided
        return decided.model_copy(update={"use": "stale", "reason": aged.why})

    async def _aged(self, kept: CachedAnswer, remaining: float) -> Staleness:
        if not await self._versions.sync(remaining):
            return Staleness(UNKNOWN, time.time())
        versions = self._versions
        return assess(kept, versions.of, versions.topic_id, max_age=self._limits.max_age, now=time.time())

    def _allowed(self, aged: Staleness, seconds: float) -> bool:
        """Whether an answer that is stale may be used so long after it became so."""
        return (
            seconds > 0
            and not aged.gone
            and "stale" in self._settings.ladder.rungs
            and aged.within(seconds, time.time())
        )

    async def _revalidate(self, wanted: CacheRequest, kept: CachedAnswer) -> None:
        """Have a stale answer worked out anew by a run of its own, however many readers see that it is stale.

        The first of them takes a mark in Redis. Should two take it (the mark is lost), both name the run alike, and the
        journal has it done once; should both be done at once, they share a flight.
        """
        run, ask = wanted.run, wanted.ask
        mark = Lease(f"{flight_key(run.tenant, wanted.key)}:again", uuid4().hex)
        if await self._journal.claim(mark, REVALIDATION_INTERVAL) is ClaimStatus.HELD:
            return
        versions = ((known.version if (known := self._versions.of(on.document)) else -1) for on in kept.grounds)
        name = "/".join(map(str, (wanted.key, kept.made, *versions, int(time.time() / REVALIDATION_INTERVAL))))
        again = str(uuid5(NAMESPACE_OID, name))
        await self._mesh.producer.publish(
            RUNS_BATCH,
            Ask(question=ask.question, workflow=ask.workflow, cache="no-cache"),
            key=again,
            envelope=Envelope(run=again, step=ASK_STEP, tenant=run.tenant),
        )

    # -- 4 worked out ---------------------------------------------------------------------------------------------

    async def _boarded(self, wanted: CacheRequest, flights: list[Flight]) -> CacheDecision:
        """What another run works out at the moment, or that this one does."""
        run, ask = wanted.run, wanted.ask

        async def accepts(kept: CachedAnswer, elsewhere: bool) -> bool:
            return await self._accepts(wanted, kept, elsewhere=elsewhere)

        # An ask that somebody waits for does not wait for bulk work; a canned text is in the reader's language.
        key = ":".join((flight_key(run.tenant, wanted.key), run.lane, ask.language or ""))
        within = run.remaining() * (1 - self._settings.ladder.reserve) * WAIT_SHARE
        found = await self._flights.acquire(key, accepts, within)
        if isinstance(found, CachedAnswer):
            return CacheDecision(use="shared", drawn=wanted.drawn, kept=found, reason=found.answer.reason)
        if found is None:
            late = "another run did not work it out in time"
            return CacheDecision(use="misses", drawn=wanted.drawn, unasked=late, at=time.time())
        flights.append(found)
        return CacheDecision(use="misses", drawn=wanted.drawn, at=time.time())

    async def _stale(self, wanted: CacheRequest) -> StaleAnswer | None:
        """What was kept, for the ladder's rung `stale`."""
        run = wanted.run
        kept = await self._answers.look(run.tenant, wanted.key) if wanted.ask.cache is None else None
        if kept is None or not epoch_reached(kept.answer.epoch, run.min_epoch):
            return None
        aged = await self._aged(kept, run.remaining())
        if not aged.fresh and not self._allowed(aged, self._limits.stale_if_error):
            return None
        answer = kept.answer
        return StaleAnswer(
            text=answer.text,
            citations=answer.citations,
            variant=answer.variant,
            epoch=answer.epoch,
            age=max(0.0, time.time() - kept.made),
            reason=aged.why or "another run has just worked it out",
        )

    async def _accepts(self, wanted: CacheRequest, kept: CachedAnswer, *, elsewhere: bool) -> bool:
        """Whether what another run worked out will do for this one.

        What began after this run did knows all that this run could have known. What began before it must still stand
        now, and is shared only with asks that were there before it was made: later ones look what was kept. What no
        model wrote is not shared with those who have more time than it had: in that, one might write.
        """
        run = wanted.run
        if not epoch_reached(kept.answer.epoch, run.min_epoch):
            return False
        if kept.answer.rung not in MODEL_RUNGS and kept.had is not None and run.remaining() > TIME_TOLERANCE * kept.had:
            return False
        if wanted.ask.cache == "no-cache" and kept.answer.cached:  # an earlier one stood in
            return False
        if kept.began - (self._mesh.settings.clock_skew if elsewhere else 0.0) >= run.started:
            return True
        if wanted.ask.cache == "no-cache" or run.written > kept.made:
            return False
        return (await self._aged(kept, run.remaining())).fresh

    async def _keep(self, wanted: CacheRequest, answer: Answer, began: float) -> CachedAnswer:
        """Keep an answer, if it is one to keep; returns it for those who wait for it."""
        run = wanted.run
        made = time.time()
        grounds = await self._grounds(run)
        took = made - began
        had = took + run.remaining()
        kept = CachedAnswer(answer=answer, began=began, made=made, grounds=grounds, ms=took * 1_000, had=had)
        by = next((one for one in self._settings.variants if one.name == answer.variant), None)
        # Nobody announces that an integration would say something else by now, or something at all.
        if by is not None and not self._settings.integrations and _may_be_kept(kept):
            # Whoever finds it had its variant drawn first: of the one that was drawn here it need know nothing.
            first = answer.model_copy(update={"rung": "primary", "reason": None})
            limits = self._limits
            ttl = limits.max_age + max(limits.stale_while_revalidate, limits.stale_if_error)
            key = self._key(run, wanted.ask, by)
            await self._answers.keep(run.tenant, key, kept.model_copy(update={"answer": first}), ttl)
        return kept

    async def _grounds(self, run: Run) -> tuple[Dependency, ...]:
        """The documents of all passages that were found, and what they said in the version that was found.

        Integrations are none: those who ask at the same time share what they said, and nobody later.
        """
        told = await self._versions.sync(run.remaining())
        grounds: dict[str, Dependency] = {}
        for passage in run.notes.passages:
            if passage.version is None and passage.id.startswith(PASSAGE_ID_PREFIX):
                continue
            document = document_id(passage.id)
            known = self._versions.of(document) if told else None
            says = known is not None and passage.version is not None and known.says(passage.version)
            digest = known.digest if known is not None and says else None
            if document not in grounds or digest is None:
                grounds[document] = Dependency(document=document, source=passage.source, digest=digest)
        return tuple(grounds.values())

    # -- sending --------------------------------------------------------------------------------------------------

    async def _send(self, wanted: CacheRequest, kept: CachedAnswer, decided: CacheDecision) -> Answer:
        """An answer that was worked out for another ask, as the answer to this one."""
        run, made = wanted.run, kept.answer
        with span(semconv.ANSWER, attributes={semconv.VARIANT: wanted.variant.name}):
            if run.words is not None:
                await run.words.write(made.text)
            run.notes.cached = True
            timings = run.timings()
            answer = made.model_copy(
                update={
                    "run_id": run.id,
                    "rung": "stale" if decided.use == "stale" else made.rung,
                    "reason": decided.reason,
                    "cached": True,
                    "age": (made.age or 0.0) + max(0.0, time.time() - kept.made),
                    "timings": timings,
                }
            )
            _note(answer, wanted)
        await self._count(wanted, decided.use, (kept.ms - timings["total"]) / 1_000)
        return answer

    async def _count(self, wanted: CacheRequest, use: Use, saved: float = 0.0) -> None:
        if wanted.ask.cache is not None:  # it did not look
            return
        count(semconv.CACHE_LOOKS, 1, {semconv.CACHE_USE: use})
        count(semconv.CACHE_SAVED, max(0.0, saved))
        await self._answers.count(wanted.run.tenant, use, saved)


def _may_be_kept(kept: CachedAnswer) -> bool:
    """Whether an answer passed its check, and it is known of all that it rests on what that said."""
    answer = kept.answer
    return (
        answer.rung in MODEL_RUNGS
        and answer.retrieval in {"hybrid", "lexical"}
        and answer.epoch is not None
        and not answer.cached
        and bool(kept.grounds)
        and all(ground.digest is not None for ground in kept.grounds)
    )


def _note(answer: Answer, wanted: CacheRequest) -> None:
    current = current_span()
    current.set_attribute(semconv.RUNG, answer.rung)
    if answer.reason:
        current.set_attribute(semconv.REASON, answer.reason)
    labels = {semconv.RUNG: answer.rung, semconv.VARIANT: wanted.variant.name}
    count(semconv.ANSWERS, 1, labels)
    measure(semconv.RUN_DURATION, time.time() - wanted.run.started, labels)
