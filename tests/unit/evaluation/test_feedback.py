"""Feedback: its conversion to scores, and its outcome if the run has no record."""

import time
from dataclasses import dataclass
from random import Random
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pydantic import ValidationError

from poise.contracts import Answer, Draw, Feedback, RunRecord
from poise.contracts.run_id import derive_run_id, new_run_id
from poise.contracts.topics import RETRY_DELAYS
from poise.errors import RetryableError, TerminalError
from poise.worker.context import Context
from poise.worker.retry_policy import DeadLetterIt, FailedAttempt, RetryLater, decide
from poise_services.evaluation.feedback import FeedbackHandler, classify_missing, score_of

HOUR, DAY = 3_600.0, 86_400.0
NOW = 1_800_000_000.0
BY_PLACE = derive_run_id("poise.ask.interactive", 0, 7, 1.0)
RECORD = RunRecord(
    run_id=BY_PLACE,
    workflow="answer",
    tenant="acme",
    question="Who?",
    started=1.0,
    finished=2.0,
    answer=Answer(run_id=BY_PLACE, text="Nobody.", rung="extractive"),
    draw=Draw(variant="small", probability=0.25, policy="brief", policy_version=7),
)


def a_run(ago: float) -> str:
    return new_run_id(NOW - ago, Random(1))


def test_feedback_as_a_score_has_the_draw_of_its_run() -> None:
    found = score_of(Feedback(run_id=BY_PLACE, id="ada", thumb="up"), RECORD, 9.0)
    assert (found.run_id, found.workflow, found.tenant) == (BY_PLACE, "answer", "acme")
    assert (found.policy, found.policy_version, found.variant, found.probability) == ("brief", 7, "small", 0.25)
    assert (found.rung, found.at, found.feedback) == ("extractive", 9.0, "ada")


def test_feedback_on_a_run_without_a_draw_counts_for_no_variant() -> None:
    found = score_of(Feedback(run_id=BY_PLACE, thumb="up"), RECORD.model_copy(update={"draw": None}), 9.0)
    assert (found.policy, found.policy_version, found.variant, found.probability) == ("answer", 0, "none", 1.0)
    assert found.feedback == BY_PLACE


@pytest.mark.parametrize(
    ("said", "values"),
    [
        ({"thumb": "up"}, {"feedback_thumb": 1.0}),
        ({"thumb": "down"}, {"feedback_thumb": 0.0}),
        ({"rating": 1}, {"feedback_rating": 0.0}),
        ({"rating": 2}, {"feedback_rating": 0.25}),
        ({"rating": 5}, {"feedback_rating": 1.0}),
        ({"correction": "Ada did."}, {"feedback_corrected": 1.0}),
        (
            {"thumb": "down", "rating": 3, "correction": "Ada did."},
            {"feedback_thumb": 0.0, "feedback_rating": 0.5, "feedback_corrected": 1.0},
        ),
    ],
)
def test_feedback_is_converted_to_numbers(said: dict[str, Any], values: dict[str, float]) -> None:
    assert score_of(Feedback(run_id=BY_PLACE, **said), RECORD, 9.0).values == values


@pytest.mark.parametrize(
    ("run", "given_ago", "outcome", "kind"),
    [
        (a_run(1), 0, "early", RetryableError),
        (BY_PLACE, 0, "early", RetryableError),
        (BY_PLACE, 669, "early", RetryableError),
        (BY_PLACE, 670, "unknown", TerminalError),
        (a_run(700), 670, "unknown", TerminalError),
        (a_run(6 * HOUR), 0, "early", RetryableError),  # a run of the batch lane may take so long
        (a_run(8 * HOUR), 0, "unknown", TerminalError),
        (a_run(-2 * HOUR), 0, "unknown", TerminalError),
        (a_run(7 * DAY + 1), 0, "late", TerminalError),
        (a_run(30 * DAY), 0, "late", TerminalError),
    ],
)
def test_the_outcome_of_feedback_without_a_record(run: str, given_ago: float, outcome: str, kind: type) -> None:
    found, error = classify_missing(run, NOW - given_ago, NOW)
    assert (found, type(error)) == (outcome, kind)
    assert run in str(error)


def test_early_feedback_is_delayed_once_by_each_retry_topic() -> None:
    waits: list[float] = []
    given, attempt = NOW, 1
    while True:
        now = given + sum(waits)
        _, error = classify_missing(BY_PLACE, given, now)
        match decide(
            error, FailedAttempt(attempt, float("inf"), has_caller=False, delayed_retries=len(waits)), Random(1)
        ):
            case RetryLater(delay):
                waits.append(delay)
                attempt += 1
            case other:
                break
    assert waits == list(RETRY_DELAYS)
    assert other == DeadLetterIt()
    assert str(error).startswith(f"run {BY_PLACE} ")
    assert isinstance(error, TerminalError)


@dataclass
class Unread:
    """The part of a context that is used before a look-up. A look-up fails the test."""

    written: float
    tenant: str = "acme"
    mesh: None = None


def test_feedback_with_an_invalid_run_id_is_refused() -> None:
    with pytest.raises(ValidationError, match="run_id\n  is not a run id"):
        Feedback(run_id="r", thumb="up")


NO_RUN_LOG: Any = None
"""No test asks for them, or it gives its own."""


async def test_feedback_on_a_run_before_all_records_is_late_without_a_look_up() -> None:
    context: Any = Unread(time.time())
    run = new_run_id(time.time() - 8 * DAY, Random())
    with pytest.raises(TerminalError, match="is too old: records are retained for 7 days"):
        await FeedbackHandler(NO_RUN_LOG).join(Feedback(run_id=run, thumb="up"), context)


async def came_of(feedbacks: FeedbackHandler, run: str, written: float, record: RunRecord | None = None) -> str:
    """Return the outcome of feedback on a run with the given record, or without one."""

    async def find(_run: str) -> RunRecord | None:
        return record

    feedbacks._run_log = cast("Any", SimpleNamespace(record=find))
    topic = SimpleNamespace(topic="poise.feedback")
    context = SimpleNamespace(written=written, tenant="acme", record=topic)
    try:
        await feedbacks.join(Feedback(run_id=run, thumb="up"), cast("Context", context))
    except RetryableError:
        return "waits"
    except TerminalError:
        return "dead letter"
    return "passed over"


async def test_a_flood_of_feedback_on_unknown_runs_is_bounded() -> None:
    now = [0.0]
    feedbacks = FeedbackHandler(NO_RUN_LOG, lambda: now[0])
    runs = [new_run_id(time.time(), Random(number)) for number in range(3_000)]
    early = [await came_of(feedbacks, run, time.time()) for run in runs]
    assert early == ["waits"] * 2_000 + ["passed over"] * 1_000
    unknown = [await came_of(feedbacks, run, time.time() - DAY) for run in runs]
    assert unknown == ["dead letter"] * 200 + ["passed over"] * 2_800
    now[0] = HOUR
    assert [await came_of(feedbacks, run, time.time() - DAY) for run in runs[:30]].count("dead letter") == 20
    assert await came_of(feedbacks, old(0), time.time()) == "dead letter", "a flood of another kind takes nothing of it"


async def test_a_flood_of_late_feedback_is_bounded() -> None:
    feedbacks = FeedbackHandler(NO_RUN_LOG, lambda: 0.0)
    late = [await came_of(feedbacks, old(number), time.time()) for number in range(300)]
    assert late == ["dead letter"] * 200 + ["passed over"] * 100


def old(number: int) -> str:
    return new_run_id(time.time() - 7.5 * DAY, Random(number))


async def test_a_flood_of_feedback_on_another_tenants_run_is_bounded() -> None:
    feedbacks = FeedbackHandler(NO_RUN_LOG, lambda: 0.0)
    record = RECORD.model_copy(update={"tenant": "another"})
    foreign = [await came_of(feedbacks, BY_PLACE, time.time(), record) for _ in range(300)]
    assert foreign == ["dead letter"] * 200 + ["passed over"] * 100
