"""The answer workflow: draw a variant → retrieve → down the ladder, to the first rung that bears → answer."""

import time

from poise.contracts import Answer, Ask, Draw
from poise.executors.limited import LimitedExecutor
from poise.redis.client import RedisClient
from poise.redis.passage_store import PassageStore
from poise.scoring import Evidence
from poise.telemetry import count, current_span, measure, semconv, span
from poise.workflows.run import Run
from poise_services.orchestration import integrations
from poise_services.orchestration.active_policy import ActivePolicy, Policies
from poise_services.orchestration.breakers import Breakers
from poise_services.orchestration.cache_hints import NO_CACHE, CacheHints
from poise_services.orchestration.document_versions import DocumentVersions
from poise_services.orchestration.evidence_reader import EvidenceReader
from poise_services.orchestration.fallbacks import FallbackContext, FallbackResult, run_fallbacks
from poise_services.orchestration.generation import Generator, max_failovers
from poise_services.orchestration.retrieval import Retrieved, Retriever
from poise_services.orchestration.settings import OrchestrationSettings, Variant


class AnswerWorkflow:
    """Answers one ask; never fails while a rung of the ladder bears.

    Args:
        settings: The variants and the ladder.
        cache: Where passages are kept for when retrieval is down; None = nowhere.
        breakers: Which variants are left alone; None = its own.
        versions: What documents say; None = that is not known.
        policies: Which weights are in force; None = the settings'.
        executor: Has a process for large passages and answers; None = its own.
    """

    def __init__(
        self,
        settings: OrchestrationSettings,
        cache: RedisClient | None = None,
        breakers: Breakers | None = None,
        versions: DocumentVersions | None = None,
        policies: Policies | None = None,
        *,
        executor: LimitedExecutor | None = None,
    ) -> None:
        self._settings = settings
        self._executor = executor or LimitedExecutor()
        self._breakers = breakers or Breakers(settings.variants)
        self._policies = policies or Policies(settings)
        store = PassageStore(cache or RedisClient(None), settings.ladder.passages_for)
        self._retrieving = Retriever(store, settings.passages, self._breakers, versions)
        self._writers = 1 + max_failovers(settings) if "primary" in settings.ladder.rungs else 0

    async def answer(self, run: Run, ask: Ask, hints: CacheHints = NO_CACHE) -> Answer:
        """Answer an ask, with what the cache has to say to it."""
        run.keep_back(self._settings.ladder.reserve)
        now = self._policies.current
        drawn, variant = await self._drawn(run, now, hints)
        with span(semconv.ANSWER, attributes={semconv.VARIANT: drawn.variant}):
            retrieving = self._retrieving.retrieve(run, ask, self._writers)
            found = await integrations.query(self._settings.integrations, run, ask, retrieving, self._breakers)
            run.notes.passages = found.passages
            async with self._retrieving.cache_in_background(run, ask, found):
                evidence = EvidenceReader(Evidence(found.passages), self._executor)
                writing = Generator(
                    run,
                    ask.question,
                    evidence,
                    variant,
                    settings=now.settings,
                    breakers=self._breakers,
                    secret=now.secret,
                )
                standing = await run_fallbacks(
                    FallbackContext(run, ask, found, evidence, writing, hints, self._settings.ladder)
                )
                await _say(run, standing)
            answer = _answer(run, standing, found)
            _note(answer, drawn, run)
        return answer

    async def _drawn(self, run: Run, now: ActivePolicy, hints: CacheHints) -> tuple[Draw, Variant]:
        """The draw of this run: a step of it, for a run that is begun again may find another policy in force."""

        async def draw() -> Draw:
            return now.draw(run.id)

        found = hints.draw
        if found is None:
            found = await run.step("draw", draw, returns=Draw, id="draw", recorded=False)
        drawn, variant = now.resolve(found, run.id)
        if "primary" not in self._settings.ladder.rungs:
            drawn = drawn.model_copy(update={"skipped": "the ladder has no rung primary"})
        run.notes.draw = drawn
        return drawn, variant


async def _say(run: Run, standing: FallbackResult) -> None:
    """Have whoever reads along read what is said; a model's words that count have come from inference."""
    if run.words is not None and standing.rung not in {"primary", "variant"}:
        await run.words.reset(standing.reason or standing.rung, rung=standing.rung)
        await run.words.write(standing.text)


def _answer(run: Run, standing: FallbackResult, found: Retrieved) -> Answer:
    earlier = standing.earlier
    return Answer(
        run_id=run.id,
        text=standing.text,
        citations=standing.citations,
        rung=standing.rung,
        reason=standing.reason,
        variant=standing.variant,
        epoch=earlier.epoch if earlier else found.epoch,
        retrieval=found.mode,
        degraded=found.warnings,
        cached=earlier is not None,
        age=earlier.age if earlier else None,
        timings=run.timings(),
    )


def _note(answer: Answer, drawn: Draw, run: Run) -> None:
    current = current_span()
    current.set_attribute(semconv.RUNG, answer.rung)
    if answer.reason:
        current.set_attribute(semconv.REASON, answer.reason)
    labels = {semconv.RUNG: answer.rung, semconv.VARIANT: drawn.variant}
    count(semconv.ANSWERS, 1, labels)
    measure(semconv.RUN_DURATION, time.time() - run.started, labels)
