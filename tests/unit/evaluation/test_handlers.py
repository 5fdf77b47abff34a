from dataclasses import dataclass, field
from typing import Any

from poise.contracts import Answer, Message, RunRecord, Score, StepRecord
from poise.contracts.topics import SCORES, Topic, topics_of_tier
from poise.worker.tier import Tier
from poise_services.evaluation.handlers import handlers
from poise_services.evaluation.run_scores import score_run

RECORD = RunRecord(
    run_id="run",
    workflow="answer",
    tenant="acme",
    question="Who?",
    started=1.0,
    finished=2.0,
    answer=Answer(run_id="run", text="Nobody.", rung="canned"),
    steps=(StepRecord(step="retrieve", ms=3.0),),
)


@dataclass
class Published:
    """The part of a context that scoring uses."""

    messages: list[tuple[Topic, Message | None, str | None]] = field(default_factory=list)

    async def publish(self, topic: Topic, message: Message | None, *, key: str | None) -> None:
        self.messages.append((topic, message, key))


NO_RECORDS: Any = None
"""Only feedback needs the records of runs."""


async def test_a_finished_run_is_scored_and_the_score_is_keyed_by_its_policy() -> None:
    context: Any = Published()
    assert await handlers(NO_RECORDS)[RunRecord](RECORD, context) is None
    assert context.messages == [(SCORES, score_run(RECORD), "answer")]


async def test_a_redelivered_run_has_the_same_score() -> None:
    context: Any = Published()
    for _ in range(2):
        await handlers(NO_RECORDS)[RunRecord](RECORD, context)
    (_, first, _), (_, second, _) = context.messages
    assert isinstance(first, Score)
    assert first == second


def test_the_tier_handles_all_messages_of_its_topics() -> None:
    assert Tier("evaluation", handlers(NO_RECORDS)).topics == topics_of_tier("evaluation")
