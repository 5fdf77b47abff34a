from collections.abc import Mapping
from typing import Any

import pytest
from scripted_run import AnsweredQuestion, AskFunction, ScriptedRun

from poise.contracts import Answer, Ask, Completion, Generate, Message, Passage, Passages, Retrieve, Usage
from poise.workflows.run import Run
from poise.workflows.workflow import workflow
from poise_services.orchestration.active_policy import PolicyFollower
from poise_services.orchestration.answer import AnswerWorkflow, AskHandler
from poise_services.orchestration.cache_hints import NO_CACHE
from poise_services.orchestration.settings import LadderSettings, OrchestrationSettings

EPOCH = "e1.AAAA.0~1~1000"
QUESTION = "Who lit the lamp of Harrow Point?"
FOUND = Passages(
    passages=(
        Passage(
            id="lamp#0",
            source="The book of lamps",
            text="The lamp of Harrow Point was lit in 1847 by the keeper Ada Quill. It burns whale oil.",
            score=1.0,
            age=60.0,
        ),
        Passage(id="sea#3", source="The sea", text="The sea is salt. Herring live in it.", score=0.5, age=60.0),
    ),
    epoch=EPOCH,
)


@pytest.fixture
def asking() -> AskFunction:
    """Return a function that asks with the given replies, or errors, of retrieval and the model.

    It accepts settings and the run's attributes by name, and the model's reply by backend.
    """

    async def ask(
        found: Message | Exception = FOUND, wrote: str | Exception | Mapping[str, Any] = "", **options: Any
    ) -> AnsweredQuestion:
        finished, used = options.pop("finished", "stop"), options.pop("used", Usage())

        def written(request: Generate) -> Completion | Exception:
            words = wrote[request.backend] if isinstance(wrote, Mapping) else wrote
            return words if isinstance(words, Exception) else completion(words, finished, request.backend, used)

        run = ScriptedRun({Retrieve: found, Generate: written}, **options.pop("run", {}))
        ladder = {name: options.pop(name) for name in list(options) if name in LadderSettings.model_fields}
        parts = {name: options.pop(name) for name in ("redis", "breakers", "policy_follower") if name in options}
        hints = options.pop("hints", NO_CACHE)
        question = Ask(question=QUESTION, language=options.pop("language", None))
        settings = OrchestrationSettings(ladder=ladder, **options)
        parts.setdefault("policy_follower", PolicyFollower(settings, b"of the tests"))
        answering = AnswerWorkflow(settings, **parts)

        async def answer(run: Run, ask: Ask) -> Answer:
            return await answering.produce(run, ask, hints)

        asks = AskHandler([workflow("answer")(answer)])
        return AnsweredQuestion(await asks.answer(question, run), run)  # type: ignore[arg-type]  # all that it needs

    return ask


def completion(text: str, finish_reason: str, backend: str, usage: Usage) -> Completion:
    return Completion(text=text, model="m", backend=backend, finish_reason=finish_reason, usage=usage)
