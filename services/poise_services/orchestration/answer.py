"""The path of an ask through this tier, from its arrival to its reply, in order.

1. `AskHandler.answer`: choose the workflow, run it, publish the run record, reply.
2. `AnswerWorkflow.answer`, the built-in workflow: answer from the cache, or produce an answer and store it.
3. `AnswerWorkflow.produce`: draw a variant, retrieve, query the integrations, and try the rungs of the ladder.
4. `ask_variant`, for the rungs `primary` and `variant`: prompt, generate, check.
"""

import asyncio
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from poise.contracts import Answer, Ask, Draw, FieldError, Message, Rung
from poise.errors import PoiseError, UnknownWorkflowError, WorkLimitError
from poise.executors.limited import LimitedExecutor
from poise.redis.client import RedisClient
from poise.redis.passage_store import PassageStore
from poise.scoring import Evidence
from poise.telemetry import semconv, span
from poise.worker.context import Context, Handler
from poise.workflows.run import Run
from poise.workflows.workflow import Workflow
from poise_services.orchestration import integrations, ladder, reply, run_record
from poise_services.orchestration.active_policy import ActivePolicy, PolicyFollower
from poise_services.orchestration.answer_cache import AnswerCache
from poise_services.orchestration.answer_check import CheckFailed
from poise_services.orchestration.breakers import Breakers
from poise_services.orchestration.cache_hints import NO_CACHE, CacheHints
from poise_services.orchestration.document_versions import DocumentVersions
from poise_services.orchestration.evidence_reader import EvidenceReader
from poise_services.orchestration.generation import Generator
from poise_services.orchestration.ladder import RungContext, RungFunction
from poise_services.orchestration.retrieval import Retrieved, Retriever
from poise_services.orchestration.rung_outcome import RungResult, RungSkipped
from poise_services.orchestration.settings import OrchestrationSettings, Variant
from poise_services.orchestration.user_workflows import DEFAULT_WORKFLOW
from poise_services.orchestration.variant_router import Route, VariantRouter, max_failovers

# -- 1 from the ask to the reply -------------------------------------------------------------------------------------


class AskHandler:
    """Handles `Ask`.

    Args:
        workflows: The workflows that an ask may name.
    """

    def __init__(self, workflows: Iterable[Workflow[Ask, Answer]]) -> None:
        self._workflows = {workflow.name: workflow for workflow in workflows}

    def handlers(self) -> Mapping[type[Message], Handler]:
        """Return the handler by message type."""
        return {Ask: self.answer}

    async def answer(self, ask: Ask, context: Context) -> Answer:
        """Run the workflow of an ask, publish the run record, and return the answer.

        Raises:
            UnknownWorkflowError: No workflow has the name in the ask.
            EncodingError: A field of the answer or of the run record cannot be encoded as JSON.
            TerminalError: The workflow returned something other than an answer, or an answer too large to send.
            UnavailableError: The broker did not accept the run record.
        """
        workflow = self._workflow_of(ask)
        run = workflow.new_run(context)
        return await run.execute(self._execute(run, workflow, ask, context))

    async def _execute(self, run: Run, workflow: Workflow[Ask, Answer], ask: Ask, context: Context) -> Answer:
        answer = await workflow.function(run, ask)  # the built-in one is `AnswerWorkflow.answer`
        await reply.validate(answer, workflow.name, context)
        await run_record.publish(run, workflow.name, ask, answer, context)
        return answer

    def _workflow_of(self, ask: Ask) -> Workflow[Ask, Answer]:
        name = ask.workflow or DEFAULT_WORKFLOW
        if name in self._workflows:
            return self._workflows[name]
        known = ", ".join(self._workflows)
        detail = f"there is no workflow {name!r}, only {known}; others are named in [orchestration] workflows"
        raise UnknownWorkflowError(f"workflow: {detail}", [FieldError(field="workflow", detail=detail)])


# -- 2 the built-in workflow -----------------------------------------------------------------------------------------


class AnswerWorkflow:
    """Answers an ask; never fails as long as a rung of the ladder applies.

    Args:
        settings: The variants and the ladder.
        cache: The answer cache; None = produce every answer.
        redis: Stores passages for when retrieval is down; None = store none.
        breakers: The variants' circuit breakers; None = new ones.
        versions: The documents' versions; None = unknown.
        policy_follower: Has the policy in force; None = the settings' weights.
        executor: Runs large texts in a process with limits; None = a new one.
    """

    def __init__(
        self,
        settings: OrchestrationSettings,
        cache: AnswerCache | None = None,
        *,
        redis: RedisClient | None = None,
        breakers: Breakers | None = None,
        versions: DocumentVersions | None = None,
        policy_follower: PolicyFollower | None = None,
        executor: LimitedExecutor | None = None,
    ) -> None:
        self._settings = settings
        self._cache = cache
        self._breakers = breakers or Breakers(settings.variants)
        self._policy_follower = policy_follower or PolicyFollower(settings)
        self._executor = executor or LimitedExecutor()
        store = PassageStore(redis or RedisClient(None), settings.ladder.passages_ttl)
        self._retriever = Retriever(store, settings.top_k, self._breakers, versions)

    async def answer(self, run: Run, ask: Ask) -> Answer:
        """Answer from the cache, or produce an answer and store it."""
        if self._cache is None or ask.cache == "no-store":
            return await self.produce(run, ask)
        async with self._cache.open(run, ask) as session:  # look up; join the single flight
            if session.cached is not None:
                answer = await reply.send_cached(run, session.cached, session.decision, session.request.variant)
            else:
                answer = await self.produce(run, ask, session.hints)
                await session.store(answer)
        await session.count(answer)
        return answer

    # -- 3 an answer that is not cached ------------------------------------------------------------------------------

    async def produce(self, run: Run, ask: Ask, hints: CacheHints = NO_CACHE) -> Answer:
        """Produce an answer: draw, retrieve, generate or fall back."""
        run.reserve(self._settings.ladder.deadline_reserve)
        policy = self._policy_follower.current
        draw, variant = await self._draw(run, policy, hints)
        with span(semconv.ANSWER, attributes={semconv.VARIANT: draw.variant}):
            retrieved = await self._retrieve(run, ask)
            async with self._retriever.cache_in_background(run, ask, retrieved):
                router = VariantRouter(run, variant, settings=policy.weighted_settings, breakers=self._breakers)
                evidence = EvidenceReader(Evidence(retrieved.passages), self._executor)
                context = RungContext(
                    run, ask, retrieved, evidence, Generator(run, router), hints, self._settings.ladder
                )
                result = await ladder.answer_by_ladder(RUNG_FUNCTIONS, context)
                await reply.stream(run, result)
            answer = reply.build(run, result, retrieved)
            reply.report(run, answer, draw.variant)
        return answer

    async def _draw(self, run: Run, policy: ActivePolicy, hints: CacheHints) -> tuple[Draw, Variant]:
        """Draw the variant in a step of the run, because a replay may find another policy in force."""

        async def draw_variant() -> Draw:
            return policy.draw(run.id)

        draw = hints.draw  # drawn for the cache look-up
        if draw is None:
            draw = await run.step("draw", draw_variant, returns=Draw, id="draw", in_run_record=False)
        draw, variant = policy.resolve(draw, run.id)
        if "primary" not in self._settings.ladder.rungs:
            draw = draw.model_copy(update={"skipped": "the ladder has no rung primary"})
        run.annotations.draw = draw
        return draw, variant

    async def _retrieve(self, run: Run, ask: Ask) -> Retrieved:
        """Retrieve passages and query the integrations at the same time."""
        settings = self._settings
        variants_after = 1 + max_failovers(settings) if "primary" in settings.ladder.rungs else 0
        passages, replies = await asyncio.gather(
            self._retriever.retrieve(run, ask, variants_after),
            integrations.query(settings.integrations, run, ask, self._breakers),
        )
        retrieved = integrations.merge(passages, replies)
        run.annotations.passages = retrieved.passages
        return retrieved


# -- 4 the rungs that ask a model ------------------------------------------------------------------------------------


async def ask_drawn_variant(context: RungContext) -> RungResult | RungSkipped:
    """Ask the drawn variant, unless its breaker is open."""
    generator = context.generator
    if (reason := ladder.no_model_reason(context)) is not None:
        return generator.skip_drawn(reason)
    route = await generator.router.first()
    if route.variant is None:
        return generator.skip_drawn(*route.skipped)
    return await ask_variant(context, route, "primary")


async def ask_other_variants(context: RungContext) -> RungResult | RungSkipped:
    """Ask other variants, one after another, until an answer passes its check or no failover is left."""
    if (reason := ladder.no_model_reason(context)) is not None:
        return RungSkipped(reason)
    router = context.generator.router
    reasons: list[str | None] = []
    while router.failovers_left > 0:
        route = await router.next()
        reasons += route.skipped
        if route.variant is None:
            break
        outcome = await ask_variant(context, route, "variant")
        if isinstance(outcome, RungResult):
            return outcome
        reasons.append(outcome.reason)
    if not reasons and router.failovers_left > 0:
        return RungSkipped("no other variant is worth asking")
    return RungSkipped("; ".join(filter(None, dict.fromkeys(reasons))) or None)


async def ask_variant(context: RungContext, route: Route, rung: Rung) -> RungResult | RungSkipped:
    """Have one variant answer: prompt, generate, check."""
    attempt, question = context.generator.attempt(route, rung), context.ask.question
    try:
        messages = await context.evidence.build_prompt(question, attempt.variant)
        completion = await attempt.generate(messages)
    except WorkLimitError as error:  # from the prompt
        return attempt.prompt_failed(error)
    except PoiseError as error:
        return attempt.failed(error)
    except BaseException:  # cancelled, or a bug of ours: says nothing about the variant
        attempt.release()
        raise
    verdict = await context.evidence.check(completion, question, context.ladder, attempt.label)
    if isinstance(verdict, CheckFailed):
        return attempt.rejected(completion, verdict)
    attempt.accepted(completion)
    return RungResult(rung, completion.text.strip(), verdict, attempt.variant.name)


RUNG_FUNCTIONS: Final[Mapping[Rung, RungFunction]] = MappingProxyType(
    {
        "primary": ask_drawn_variant,
        "variant": ask_other_variants,
        "stale": ladder.stale,
        "extractive": ladder.extractive,
        "canned": ladder.canned,
    }
)
"""The function of each rung of the ladder, from the top down."""
