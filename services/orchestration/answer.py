"""The answer workflow: retrieve → prompt → generate → check → reply."""

import time

from poise.contracts import Answer, Ask, Completion, Draw, Generate, Generation
from poise.errors import PoiseError
from poise.policy import Choice, draw
from poise.runs import Run
from poise.scoring import Evidence
from poise.telemetry import count, current_span, measure, span, table
from services.orchestration.ladder import Situation, Standing, step_down
from services.orchestration.prompt import prompt
from services.orchestration.retrieving import Retrieved, in_words, retrieve
from services.orchestration.settings import OrchestrationSettings, Variant


class AnswerWorkflow:
    """Answers one ask; never fails while a rung of the ladder bears."""

    def __init__(self, settings: OrchestrationSettings) -> None:
        self._settings = settings

    async def answer(self, run: Run, ask: Ask) -> Answer:
        """Answer an ask."""
        settings = self._settings
        run.keep_back(settings.ladder.reserve)
        choice = draw(settings.variants, run=run.id, policy=settings.policy, version=settings.policy_version)
        run.notes.draw = self._drawn(choice)
        with span(table.ANSWER, attributes={table.VARIANT: choice.variant.name}):
            found = await retrieve(run, ask, settings.passages)
            run.notes.passages = found.passages
            evidence = Evidence(found.passages)
            completion, trouble = None, found.trouble
            if found.passages:
                completion, trouble = await self._generate(run, ask, evidence, choice.variant)
            with span(table.CHECK):
                standing = step_down(Situation(ask.question, evidence, completion, trouble), settings.ladder)
            if run.words is not None and standing.rung != "primary":  # what the model wrote is not what is said
                await run.words.reset(standing.reason or standing.rung, rung=standing.rung)
                await run.words.write(standing.text)
            answer = _answer(run, standing, choice.variant, found)
            _note(answer, choice, run)
        return answer

    async def _generate(
        self, run: Run, ask: Ask, evidence: Evidence, variant: Variant
    ) -> tuple[Completion | None, str | None]:
        request = Generate(
            messages=prompt(ask.question, evidence, variant.sentences, variant.system),
            backend=variant.backend,
            max_tokens=variant.max_tokens,
            temperature=variant.temperature,
        )
        try:
            written = await run.stream(request, id="generate")
        except PoiseError as error:
            run.notes.generations.append(Generation(variant=variant.name, fault=error.fault().type))
            return None, in_words("the model", error)
        wrote = {"raw": written.text, "finish_reason": written.finish_reason}
        run.notes.generations.append(Generation(variant=variant.name, **wrote))
        if run.notes.draw is not None:
            run.notes.draw = run.notes.draw.model_copy(update=wrote)
        return written, None

    def _drawn(self, choice: Choice[Variant]) -> Draw:
        settings = self._settings
        return Draw(
            variant=choice.variant.name,
            probability=choice.probability,
            policy=settings.policy,
            policy_version=settings.policy_version,
        )


def _answer(run: Run, standing: Standing, variant: Variant, found: Retrieved) -> Answer:
    return Answer(
        run_id=run.id,
        text=standing.text,
        citations=standing.citations,
        rung=standing.rung,
        reason=standing.reason,
        variant=variant.name if standing.rung == "primary" else None,
        epoch=found.epoch,
        retrieval=found.mode,
        degraded=found.degraded,
        timings=run.timings(),
    )


def _note(answer: Answer, choice: Choice[Variant], run: Run) -> None:
    current = current_span()
    current.set_attribute(table.RUNG, answer.rung)
    if answer.reason:
        current.set_attribute(table.REASON, answer.reason)
    labels = {table.RUNG: answer.rung, table.VARIANT: choice.variant.name}
    count(table.ANSWERS, 1, labels)
    measure(table.RUN_DURATION, time.time() - run.started, labels)
