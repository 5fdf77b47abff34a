"""The answer workflow: retrieve → prompt → generate → check → reply."""

import time
from collections.abc import Mapping, Sequence

from poise.contracts import Answer, Ask, Completion, Draw, Generate, Passage, Passages, Retrieve, RunRecord
from poise.contracts.topics import RECORDS
from poise.errors import PoiseError
from poise.policy import Choice, draw
from poise.scoring import Evidence
from poise.telemetry import count, current_span, measure, span, table
from services.orchestration.ladder import Situation, Standing, step_down
from services.orchestration.prompt import prompt
from services.orchestration.settings import OrchestrationSettings, Variant
from services.orchestration.steps import Run, Steps, in_words

LONGEST_KEPT = 2_000
"""Characters of each passage that a run's record keeps."""


class AnswerWorkflow:
    """Answers one ask; never fails while a rung of the ladder bears."""

    def __init__(self, settings: OrchestrationSettings) -> None:
        self._settings = settings

    async def answer(self, ask: Ask, run: Run) -> Answer:
        """Answer an ask, publish the run's record, and return the answer."""
        started = time.time()
        settings, steps = self._settings, Steps(run, reserve=self._settings.reserve)
        choice = draw(settings.variants, run=run.run, policy=settings.policy, version=settings.policy_version)
        with span(table.ANSWER, attributes={table.VARIANT: choice.variant.name}):
            found, trouble = await self._retrieve(ask, steps)
            passages = found.passages if found is not None else ()
            evidence = Evidence(passages)
            completion = None
            if passages:
                completion, trouble = await self._generate(ask, evidence, choice.variant, steps)
            with span(table.CHECK):
                standing = step_down(Situation(ask.question, evidence, completion, trouble), settings)
            if run.stream is not None and standing.rung != "primary":  # what the model wrote is not what is said
                await run.stream.reset(standing.reason or standing.rung, rung=standing.rung)
                await run.stream.write(standing.text)
            epoch = found.epoch if found is not None else None
            answer = _answer(run.run, standing, choice.variant, epoch, steps.timings())
            _note(answer, choice, started)
        await run.publish(
            RECORDS, self._record(ask, run, answer, choice, completion, steps, passages, started), key=run.run
        )
        return answer

    async def _retrieve(self, ask: Ask, steps: Steps) -> tuple[Passages | None, str | None]:
        request = Retrieve(query=ask.question, limit=self._settings.passages)
        try:
            found = await steps.call(request, step="retrieve")
        except PoiseError as error:
            return None, in_words("retrieval", error)
        return found, None if found.passages else "retrieval found nothing"

    async def _generate(
        self, ask: Ask, evidence: Evidence, variant: Variant, steps: Steps
    ) -> tuple[Completion | None, str | None]:
        request = Generate(
            messages=prompt(ask.question, evidence, variant.sentences, variant.system),
            backend=variant.backend,
            max_tokens=variant.max_tokens,
            temperature=variant.temperature,
        )
        try:
            return await steps.call(request, step="generate", stream=True), None
        except PoiseError as error:
            return None, in_words("the model", error)

    def _record(  # noqa: PLR0917 - a record gathers all that is known of a run
        self,
        ask: Ask,
        run: Run,
        answer: Answer,
        choice: Choice[Variant],
        completion: Completion | None,
        steps: Steps,
        passages: Sequence[Passage],
        started: float,
    ) -> RunRecord:
        return RunRecord(
            run_id=run.run,
            workflow="answer",
            tenant=run.tenant,
            question=ask.question,
            started=started,
            finished=time.time(),
            answer=answer,
            draw=Draw(
                variant=choice.variant.name,
                probability=choice.probability,
                policy=self._settings.policy,
                policy_version=self._settings.policy_version,
                raw=completion.text if completion is not None else None,
                finish_reason=completion.finish_reason if completion is not None else None,
            ),
            steps=tuple(steps.records),
            passages=tuple(p.model_copy(update={"text": p.text[:LONGEST_KEPT]}) for p in passages),
        )


def _answer(
    run_id: str, standing: Standing, variant: Variant, epoch: str | None, timings: Mapping[str, float]
) -> Answer:
    return Answer(
        run_id=run_id,
        text=standing.text,
        citations=standing.citations,
        rung=standing.rung,
        reason=standing.reason,
        variant=variant.name if standing.rung == "primary" else None,
        epoch=epoch,
        timings=timings,
    )


def _note(answer: Answer, choice: Choice[Variant], started: float) -> None:
    current = current_span()
    current.set_attribute(table.RUNG, answer.rung)
    if answer.reason:
        current.set_attribute(table.REASON, answer.reason)
    labels = {table.RUNG: answer.rung, table.VARIANT: choice.variant.name}
    count(table.ANSWERS, 1, labels)
    measure(table.RUN_DURATION, time.time() - started, labels)
