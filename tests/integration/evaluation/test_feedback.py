"""Feedback on a real Kafka: any worker joins it to its run at any time, or dead-letters it with the reason."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from random import Random
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer
from evaluation_kit import evaluation_tier
from integration_kit import WITHIN, PlainKafkaClient, serving, settings_for_another_process

from poise.contracts import Answer, Draw, Feedback, RunRecord, Score
from poise.contracts.run_id import derive_run_id, new_run_id
from poise.contracts.topics import FEEDBACK, RECORDS, RETRY_DELAYS, SCORES, dead_letter_topic_name, retry_topic_name
from poise.dead_letters.model import DeadLetter
from poise.dead_letters.model import read as read_dead
from poise.scoring import summarize_by_variant
from poise.settings import MeshSettings
from poise.worker.retry_policy import RetryLimits, decide
from poise.worker.runtime import WorkerRuntime

pytestmark = pytest.mark.integration

NewRun = Callable[[], str]
SOON = (0.2, 0.3, 12.0)
"""Delays in seconds. The last one is long: feedback that is handled late skips the delays that are over."""


def by_time(ago: float = 0.0) -> str:
    """Return a run id as the gateway creates it, with the start time in it."""
    return new_run_id(time.time() - ago, Random())


def by_place() -> str:
    """Return the run id of an ask from Kafka, derived from the position of its record."""
    return derive_run_id(uuid4().hex, 0, 0, time.time())


def run_record(run: str, policy: str, tenant: str = "default") -> RunRecord:
    return RunRecord(
        run_id=run,
        workflow="answer",
        tenant=tenant,
        question="Who lit the lamp?",
        started=time.time(),
        finished=time.time(),
        answer=Answer(run_id=run, text="Ada Quill.", rung="primary", variant="small"),
        draw=Draw(variant="small", probability=0.25, policy=policy, policy_version=3, raw="Ada Quill."),
    )


async def recorded(mesh: WorkerRuntime, run: str, tenant: str = "default") -> str:
    """Write the record of a run with a new policy; return the policy."""
    policy = uuid4().hex
    await mesh.producer.publish(RECORDS, run_record(run, policy, tenant), key=run)
    return policy


async def scores_of(mesh: WorkerRuntime, policy: str, count: int) -> list[Score]:
    """Wait for this number of feedback scores of a policy, and return them."""
    found: list[Score] = []
    async with asyncio.timeout(WITHIN), mesh.logs.open_stream(SCORES.name) as follower:
        async for batch in follower:
            scores = [Score.parse(record.value or b"") for record in batch if record.key == policy.encode()]
            found += [score for score in scores if score.feedback is not None]
            if len(found) >= count:
                return found
    raise AssertionError("a follower ends only when it is told to")


async def letters_of(mesh: WorkerRuntime, key: str, count: int = 1) -> list[DeadLetter]:
    """Wait for this number of dead letters of a key, and return them."""
    async with asyncio.timeout(WITHIN):
        while True:
            letters = read_dead("evaluation", await mesh.logs.read_topic(dead_letter_topic_name("evaluation")))
            found = [letter for letter in letters if letter.record.key == key.encode()]
            if len(found) >= count:
                return found


@pytest.fixture
async def mesh(mesh_settings: MeshSettings) -> AsyncIterator[WorkerRuntime]:
    """Run an evaluation worker."""
    async with serving(mesh_settings, evaluation_tier) as mesh:
        yield mesh


@pytest.fixture
async def plain_client(kafka: str) -> AsyncIterator[PlainKafkaClient]:
    """Yield a client that does not use Poise's library."""
    plain_client = PlainKafkaClient(kafka)
    await plain_client.start()
    yield plain_client
    await plain_client.stop()


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the delays without renaming the topics."""
    named = {delay: retry_topic_name("evaluation", real) for delay, real in zip(SOON, RETRY_DELAYS, strict=True)}
    for module in ("poise.worker.retry_policy", "poise_services.evaluation.feedback"):
        monkeypatch.setattr(f"{module}.RETRY_DELAYS", SOON)
    monkeypatch.setattr("poise.worker.delayed_retries.retry_topic_name", lambda _tier, delay: named[delay])
    # Delays as short as these would be waited for in place.
    monkeypatch.setattr("poise.worker.handler_runner.decide", partial(decide, limits=RetryLimits(max_attempts=1)))


@pytest.mark.parametrize("new", [by_time, by_place])
async def test_feedback_is_joined_to_its_run(mesh: WorkerRuntime, new: NewRun) -> None:
    run, other = new(), new()
    while await mesh.logs.partition_of(RECORDS.name, other.encode()) != await mesh.logs.partition_of(
        RECORDS.name, run.encode()
    ):
        other = new()
    await recorded(mesh, other)
    policy = await recorded(mesh, run)
    given = time.time()
    await mesh.producer.publish(
        FEEDBACK, Feedback(run_id=run, id="ada", thumb="down", rating=2, correction="Bo did."), key=run
    )
    (score,) = await scores_of(mesh, policy, 1)
    assert (score.run_id, score.feedback, score.policy, score.policy_version) == (run, "ada", policy, 3)
    assert (score.variant, score.probability, score.rung, score.tenant) == ("small", 0.25, "primary", "default")
    assert score.values == {"feedback_thumb": 0.0, "feedback_rating": 0.25, "feedback_corrected": 1.0}
    assert abs(score.at - given) < WITHIN


async def test_feedback_is_joined_by_a_worker_that_did_not_handle_the_run(mesh_settings: MeshSettings) -> None:
    run = by_place()
    async with serving(settings_for_another_process(mesh_settings), evaluation_tier) as mesh:
        policy = await recorded(mesh, run)
    async with serving(settings_for_another_process(mesh_settings), evaluation_tier) as mesh:
        await mesh.producer.publish(FEEDBACK, Feedback(run_id=run, thumb="up"), key=run)
        (score,) = await scores_of(mesh, policy, 1)
    assert score.values == {"feedback_thumb": 1.0}


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("new", [by_time, by_place])
async def test_early_feedback_waits_for_its_run(mesh: WorkerRuntime, new: NewRun) -> None:
    run = new()
    waiting = retry_topic_name("evaluation", RETRY_DELAYS[0])
    await mesh.producer.publish(FEEDBACK, Feedback(run_id=run, thumb="up"), key=run)
    async with asyncio.timeout(WITHIN):
        while not await mesh.logs.read_key(waiting, run):
            pass
    policy = await recorded(mesh, run)
    (score,) = await scores_of(mesh, policy, 1)
    assert score.values == {"feedback_thumb": 1.0}


@pytest.mark.usefixtures("soon")
async def test_feedback_on_an_unknown_run_becomes_a_dead_letter(mesh: WorkerRuntime) -> None:
    run = by_place()
    feedback = Feedback(run_id=run, correction="Bo did.")
    await mesh.producer.publish(FEEDBACK, feedback, key=run)
    (letter,) = await letters_of(mesh, run)
    assert letter.error == "TerminalError"
    assert letter.error_message.startswith(f"run {run} is unknown: it has no record")
    assert letter.record.value == feedback.encode()
    for delay in RETRY_DELAYS:
        assert len(await mesh.logs.read_key(retry_topic_name("evaluation", delay), run)) == 1


async def test_feedback_that_was_delayed_long_enough_is_not_delayed_again(mesh: WorkerRuntime, kafka: str) -> None:
    """Send feedback from an hour ago, when the tier was down: waiting 11 minutes more would not reveal the run."""
    run = by_place()
    body = Feedback(run_id=run, thumb="up").encode()
    async with AIOKafkaProducer(bootstrap_servers=kafka) as producer:
        hour_ago = round((time.time() - 3_600) * 1_000)
        await producer.send_and_wait(FEEDBACK.name, body, key=run.encode(), timestamp_ms=hour_ago)
    (letter,) = await letters_of(mesh, run)
    assert letter.error_message.startswith(f"run {run} is unknown")
    assert await mesh.logs.read_key(retry_topic_name("evaluation", RETRY_DELAYS[0]), run) == []


async def test_late_feedback_becomes_a_dead_letter_at_once(mesh: WorkerRuntime) -> None:
    run = by_time(ago=8 * 86_400)
    await mesh.producer.publish(FEEDBACK, Feedback(run_id=run, thumb="up"), key=run)
    (letter,) = await letters_of(mesh, run)
    assert letter.error_message == f"run {run} is too old: records are retained for 7 days"


async def test_redelivered_feedback_counts_once(mesh: WorkerRuntime) -> None:
    run = by_time()
    policy = await recorded(mesh, run)
    for thumb in ("up", "down", "down"):
        await mesh.producer.publish(
            FEEDBACK, Feedback.model_validate({"run_id": run, "id": "ada", "thumb": thumb}), key=run
        )
    await mesh.producer.publish(FEEDBACK, Feedback(run_id=run, id="bo", thumb="up"), key=run)
    (summary,) = summarize_by_variant(await scores_of(mesh, policy, 4))
    assert summary.values["feedback_thumb"].count == 2
    assert summary.runs == 0


@pytest.mark.parametrize("claimed", [None, "theirs"])
async def test_feedback_on_another_tenants_run_is_not_accepted(
    mesh: WorkerRuntime, plain_client: PlainKafkaClient, claimed: str | None
) -> None:
    """Check that a client of the topic acts for the topic's tenant, whatever the header says."""
    theirs, ours = by_time(), by_time()
    policy, own = await recorded(mesh, theirs, "theirs"), await recorded(mesh, ours)
    body = Feedback(run_id=theirs, thumb="down").encode()
    await plain_client.send(FEEDBACK.name, body, theirs.encode(), poise_tenant=claimed, reply_to=None)
    (letter,) = await letters_of(mesh, theirs)
    assert letter.error_message == f"run {theirs} does not belong to tenant default, the tenant of poise.feedback"
    await mesh.producer.publish(FEEDBACK, Feedback(run_id=ours, thumb="up"), key=ours)
    await scores_of(mesh, own, 1)
    scores = [Score.parse(record.value or b"") for record in await mesh.logs.read_key(SCORES.name, policy)]
    assert [score for score in scores if score.feedback is not None] == []


async def test_invalid_feedback_becomes_a_dead_letter_and_blocks_nothing(
    mesh: WorkerRuntime, plain_client: PlainKafkaClient
) -> None:
    run = by_time()
    policy = await recorded(mesh, run)
    bad = [
        b'{"run_id": "%s"' % run.encode(),
        b'{"run_id": "%s", "thumb": "up", "colour": 1}' % run.encode(),
        b'{"run_id": "%s", "comment": "Hm."}' % run.encode(),
        b'{"run_id": "%s", "rating": 9}' % run.encode(),
        b'{"run_id": "no run", "thumb": "up"}',
        None,
    ]
    for body in bad:
        await plain_client.send(FEEDBACK.name, body, run.encode(), reply_to=None)
    await mesh.producer.publish(FEEDBACK, Feedback(run_id=run, thumb="up"), key=run)
    letters = await letters_of(mesh, run, len(bad))
    assert {letter.record.value for letter in letters} == set(bad)
    assert {letter.error for letter in letters} == {"InvalidMessageError"}
    (score,) = await scores_of(mesh, policy, 1)
    assert score.values == {"feedback_thumb": 1.0}


async def test_an_undecodable_record_is_reported(mesh: WorkerRuntime, plain_client: PlainKafkaClient) -> None:
    run = by_time()
    await plain_client.send(RECORDS.name, b'{"run_id": 7}', run.encode(), reply_to=None)
    await mesh.producer.publish(FEEDBACK, Feedback(run_id=run, thumb="up"), key=run)
    letters = await letters_of(mesh, run, 2)
    assert f"the record of run {run} cannot be read" in "".join(letter.error_message for letter in letters)
