"""The path of an ask through this tier, in the order in which it is executed.

1. `AskHandler.answer` runs the workflow that the ask names, publishes the run record, and replies.
2. `AnswerWorkflow.answer` is the built-in workflow: it answers from the cache, or produces an answer and stores it.
3. `AnswerWorkflow.produce` draws a variant, retrieves passages, queries the integrations, and tries the rungs of the
   ladder from the top.
4. `ask_variant` is what the rungs `primary` and `variant` do: it builds the prompt, generates and checks.
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
from poise_services.orchestration.generation import VariantAttempts
from poise_services.orchestration.ladder import RungContext, RungFunction
from poise_services.orchestration.retrieval import Retrieved, Retriever
from poise_services.orchestration.rung_outcome import NoAnswer, RungResult
from poise_services.orchestration.settings import OrchestrationSettings, Variant
from poise_services.orchestration.user_workflows import DEFAULT_WORKFLOW
from poise_services.orchestration.variant_router import Route, VariantRouter, max_failovers

# -- 1 The handler: from the ask to its reply ------------------------------------------------------------------------


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
        """Run the workflow that an ask names, publish the run record, and return the answer.

        Raises:
            UnknownWorkflowError: No workflow has the name in the ask.
            EncodingError: A field of the answer or of the run record cannot be encoded as JSON.
            TerminalError: The workflow returned something other than an answer, or an answer too large to send.
            UnavailableError: The broker did not accept the run record.
        """
        workflow = self._find_workflow(ask)
        run = workflow.new_run(context)
        return await run.execute(self._run_workflow(workflow, run, ask, context))  # within the run's journal

    async def _run_workflow(self, workflow: Workflow[Ask, Answer], run: Run, ask: Ask, context: Context) -> Answer:
        answer = await workflow.function(run, ask)  # of the built-in workflow: `AnswerWorkflow.answer`
        await reply.validate(answer, workflow.name, context)
        await run_record.publish(run, workflow.name, ask, answer, context)
        return answer

    def _find_workflow(self, ask: Ask) -> Workflow[Ask, Answer]:
        name = ask.workflow or DEFAULT_WORKFLOW
        if name in self._workflows:
            return self._workflows[name]
        known = ", ".join(self._workflows)
        detail = f"there is no workflow {name!r}, only {known}; others are named in [orchestration] workflows"
        raise UnknownWorkflowError(f"workflow: {detail}", [FieldError(field="workflow", detail=detail)])


# -- 2 The built-in workflow: from the cache, or produced ------------------------------------------------------------


class AnswerWorkflow:
    """Answers an ask. A failed call of another tier does not fail it, because the last rung always applies.

    Args:
        settings: The variants and the ladder.
        cache: The answer cache; None = produce every answer.
        redis: Stores passages for when retrieval is down; None = store none.
        breakers: The circuit breakers of the variants and of the called tiers; None = new ones.
        versions: The documents' versions; None = unknown.
        policy_follower: Has the policy in force; None = the settings' weights.
        executor: Processes large texts in a child process with limits; None = a new one.
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
        async with self._cache.open(run, ask) as session:  # looks up; without a hit, joins the single flight
            if session.cached is not None:
                answer = await reply.send_cached(run, session.cached, session.decision, session.request.variant)
            else:
                answer = await self.produce(run, ask, session.hints)
                await session.store(answer)
        await session.count_lookup(answer)
        return answer

    # -- 3 An answer that is not in the cache ------------------------------------------------------------------------

    async def produce(self, run: Run, ask: Ask, hints: CacheHints = NO_CACHE) -> Answer:
        """Produce an answer: draw a variant, retrieve, and try the rungs of the ladder from the top."""
        run.reserve(self._settings.ladder.deadline_reserve)  # time for the lower rungs
        policy = self._policy_follower.current
        draw, variant = await self._draw(run, policy, hints)
        with span(semconv.ANSWER, attributes={semconv.VARIANT: draw.variant}):
            retrieved = await self._retrieve(run, ask)
            router = VariantRouter(run, variant, settings=policy.weighted_settings, breakers=self._breakers)
            context = RungContext(
                run=run,
                ask=ask,
                retrieved=retrieved,
                evidence=EvidenceReader(Evidence(retrieved.passages), self._executor),
                attempts=VariantAttempts(run, router),
                hints=hints,
                ladder=self._settings.ladder,
            )
            async with self._retriever.cache_in_background(run, ask, retrieved):
                result = await ladder.answer_by_ladder(RUNG_FUNCTIONS, context)
                await reply.stream(run, result)  # the text that no model streamed
            answer = reply.build(run, result, retrieved)
            reply.record_telemetry(run, answer, draw.variant)
        return answer

    async def _draw(self, run: Run, policy: ActivePolicy, hints: CacheHints) -> tuple[Draw, Variant]:
        """Draw the variant to ask first, in a step of the run, because a replay may find another policy in force."""

        async def draw_variant() -> Draw:
            return policy.draw(run.id)

        draw = hints.draw  # with a cache, the variant was drawn for the look-up
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
        max_variants = 1 + max_failovers(settings) if "primary" in settings.ladder.rungs else 0
        passages, replies = await asyncio.gather(
            self._retriever.retrieve(run, ask, max_variants),
            integrations.query(settings.integrations, run, ask, self._breakers),
        )
        retrieved = integrations.merge(passages, replies)
        run.annotations.passages = retrieved.passages
        return retrieved


# -- 4 The rungs that ask a model ------------------------------------------------------------------------------------


async def ask_drawn_variant(context: RungContext) -> RungResult | NoAnswer:
    """Ask the drawn variant, unless its breaker is open."""
    attempts = context.attempts
    reason = ladder.no_model_reason(context)
    if reason is not None:
        return attempts.skip_drawn(reason)
    route = await attempts.router.route_to_drawn()
    if route.variant is None:
        return attempts.skip_drawn(ladder.join_reasons(route.skipped))
    return await ask_variant(context, route, "primary")


async def ask_other_variants(context: RungContext) -> RungResult | NoAnswer:
    """Ask other variants, one after another, until an answer passes its check or no failover is left."""
    reason = ladder.no_model_reason(context)
    if reason is not None:
        return NoAnswer(reason)
    router = context.attempts.router
    reasons: list[str | None] = []
    while router.failovers_left > 0:
        route = await router.route_to_other()
        reasons += route.skipped
        if route.variant is None:
            break
        outcome = await ask_variant(context, route, "variant")
        if isinstance(outcome, RungResult):
            return outcome
        reasons.append(outcome.reason)
    if not reasons and router.failovers_left > 0:
        return NoAnswer("no other variant is worth asking")
    return NoAnswer(ladder.join_reasons(reasons))


async def ask_variant(context: RungContext, route: Route, rung: Rung) -> RungResult | NoAnswer:
    """Ask one variant for an answer: build the prompt, generate, check."""
    attempt = context.attempts.begin(route, rung)
    question = context.ask.question
    try:
        messages = await context.evidence.build_prompt(question, attempt.variant)
        completion = await attempt.generate(messages)
    except WorkLimitError as error:  # from building the prompt
        return attempt.record_prompt_error(error)
    except PoiseError as error:
        return attempt.record_error(error)
    except BaseException:  # cancelled, or a bug: says nothing about the variant
        attempt.release()
        raise
    checked = await context.evidence.check(completion, question, context.ladder, attempt.label)
    if isinstance(checked, CheckFailed):
        return attempt.record_rejection(completion, checked)
    attempt.record_accepted(completion)
    return RungResult(rung, completion.text.strip(), citations=checked, variant=attempt.variant.name)


RUNG_FUNCTIONS: Final[Mapping[Rung, RungFunction]] = MappingProxyType(
    {
        "primary": ask_drawn_variant,
        "variant": ask_other_variants,
        "stale": ladder.stale,
        "extractive": ladder.extractive,
        "canned": ladder.canned,
    }
)
"""The function of each rung; the settings select the rungs."""
