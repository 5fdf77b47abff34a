"""Runs the scenarios one after another, and records the answers."""

import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from poise.client import Poise
from poise.contracts.ask import Answer, Caching
from poise.contracts.document import Document
from poise.contracts.epoch import Epoch
from poise.contracts.topics import DOCUMENTS
from poise.errors import PoiseError, UnavailableError
from poise_labs.drill.environment import DrillEnvironment
from poise_labs.drill.scenarios import CHANGED, NEW, NOTHING, SCENARIOS, DrillScenario

ASKED_BEFORE: Final = (
    "What does the with statement do?",
    "What does the modulo operator yield?",
    "What does the pass statement do?",
    "What does the break statement do?",
    "What does the continue statement do?",
    "What does the nonlocal statement do?",
    "What does the global statement do?",
)
ASKED_NEW: Final = (
    "What does the assert statement do?",
    "What does the del statement do?",
    "What does the raise statement do?",
    "What does the import statement do?",
    "What does the return statement do?",
    "What does the try statement do?",
)
NEW_EACH: Final = 3
"""New questions per scenario; each is used in one scenario only."""
MIN_GOOD_ANSWERS: Final = 3
"""Questions that the model must answer well without a failure: only those can show what a failure changes."""
WARM_UP_QUESTION: Final = "What is a lambda expression?"


@dataclass(frozen=True, slots=True)
class DrillAnswer:
    """One question and its answer."""

    question: str
    seconds: float
    answer: Answer | None
    error: str | None = None
    """The error message, if there was no answer."""


@dataclass(frozen=True, slots=True)
class DrillOutcome:
    """The answers of one scenario."""

    scenario: DrillScenario
    asked: tuple[DrillAnswer, ...]

    @property
    def seconds(self) -> float:
        """The median time to the answer."""
        return median(one.seconds for one in self.asked)

    @property
    def rungs(self) -> Mapping[str, int]:
        """The number of answers by rung, most first; `none` counts errors."""
        found = Counter(one.answer.rung if one.answer else "none" for one in self.asked)
        return dict(found.most_common())

    @property
    def example(self) -> DrillAnswer:
        """An answer with the most frequent rung."""
        most = next(iter(self.rungs))
        return next(one for one in self.asked if (one.answer.rung if one.answer else "none") == most)


async def run_drill(
    environment: DrillEnvironment, scenarios: Sequence[DrillScenario] = SCENARIOS
) -> AsyncIterator[DrillOutcome]:
    """Run a baseline without a failure, then each scenario; yield each outcome.

    Raises:
        UnavailableError: Too few answers of the baseline were good.
    """
    await _ask(environment, WARM_UP_QUESTION, "no-store", 60.0, environment.epoch)  # until the corpus is indexed
    first = [await _ask(environment, question, NOTHING.cache) for question in ASKED_BEFORE]
    before = [one.question for one in first if one.answer is not None and one.answer.rung == "primary"]
    if len(before) < MIN_GOOD_ANSWERS:
        raise UnavailableError(f"only {len(before)} of {len(first)} answers were good without a failure")
    new = iter(ASKED_NEW)
    good = [
        await _ask(environment, question, NOTHING.cache) for question in before
    ]  # again, now that everything is warm
    yield DrillOutcome(NOTHING, tuple(good))
    for scenario in scenarios:
        if scenario.questions == CHANGED:
            await environment.ingest(_changed(environment.documents, good))
            await _ask(environment, WARM_UP_QUESTION, "no-store", 60.0, environment.epoch)
        async with scenario.breaks(environment):
            min_epoch = await unreachable_epoch(environment.poise, environment.epoch) if scenario.ahead else None
            questions = [next(new) for _ in range(NEW_EACH)] if scenario.questions == NEW else before
            for _ in range(scenario.rounds):
                asked = [await _ask(environment, one, scenario.cache, scenario.timeout, min_epoch) for one in questions]
        yield DrillOutcome(scenario, tuple(asked))


async def _ask(
    environment: DrillEnvironment,
    question: str,
    cache: Caching | None,
    timeout: float = 30.0,  # noqa: ASYNC109 - it is sent with the message
    min_epoch: Epoch | None = None,
) -> DrillAnswer:
    began = time.perf_counter()
    try:
        answer = await environment.poise.ask(question, timeout=timeout, min_epoch=min_epoch, cache=cache)
    except PoiseError as error:
        return DrillAnswer(question, time.perf_counter() - began, None, str(error))
    return DrillAnswer(question, time.perf_counter() - began, answer)


async def unreachable_epoch(poise: Poise, epoch: Epoch) -> Epoch:
    """Return an epoch that the index never reaches: that of a document which retrieval refuses."""
    at = await poise.mesh.producer.records.send(DOCUMENTS.name, b"{}", key=b"refused", headers=[])
    return epoch.with_offset(at.partition, at.offset, at.timestamp)


def _changed(documents: Mapping[str, Document], good: Sequence[DrillAnswer]) -> Mapping[str, Document]:
    """Return the documents that good answers cite, each with one more sentence."""
    cited = {
        citation.passage.rpartition("#")[0]
        for one in good
        if one.answer is not None
        for citation in one.answer.citations
    }
    return {
        id_: document.model_copy(update={"text": f"{document.text}\n\nThis page was revised."})
        for id_, document in documents.items()
        if id_ in cited
    }
