"""A failed message is retried in place or after a delay; one of a newer version waits for a newer worker."""

import asyncio
import time
from dataclasses import replace
from uuid import uuid4

import pytest
from integration_kit import PlainKafkaClient, serving, until

from poise.contracts import Completion, Fault, Generate, RunRecord
from poise.contracts.generate import ChatMessage
from poise.contracts.topics import INFERENCE_INTERACTIVE, RECORDS, retry_topic_name
from poise.dead_letters.model import read as read_dead
from poise.errors import RetryableError
from poise.rpc.client import CallOptions
from poise.settings import MeshSettings
from poise.worker.context import Context
from poise.worker.runtime import WorkerRuntime
from poise.worker.tier import Tier

pytestmark = pytest.mark.integration

SHORT_DELAYS = (3.0, 60.0, 600.0)
GENERATE = Generate(messages=(ChatMessage(role="user", content="x"),)).encode()


@pytest.fixture
def short_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the first delay; its topic keeps its name."""
    monkeypatch.setattr("poise.worker.retry_policy.RETRY_DELAYS", SHORT_DELAYS)
    monkeypatch.setattr(
        "poise.worker.delayed_retries.retry_topic_name",
        lambda tier, delay: retry_topic_name(tier, 10.0 if delay == SHORT_DELAYS[0] else delay),
    )


def record_body(run: str) -> bytes:
    return RunRecord.model_validate(
        {"run_id": run, "workflow": "w", "tenant": "t", "question": "q", "started": 1.0, "finished": 2.0}
    ).encode()


async def dead_letter_errors(mesh: WorkerRuntime, tier: str, origin: str) -> list[str]:
    letters = read_dead(tier, await mesh.logs.read_topic(f"poise.{tier}.dead"))
    return [letter.error for letter in letters if letter.record.header("poise-origin") == origin]


@pytest.mark.usefixtures("short_delays")
async def test_a_message_without_a_caller_is_retried_after_a_delay_and_blocks_nothing(
    mesh_settings: MeshSettings, plain_client: PlainKafkaClient
) -> None:
    seen: list[tuple[str, int, str, float]] = []
    failing, good = uuid4().hex, uuid4().hex

    async def score(record: RunRecord, context: Context) -> None:
        seen.append((record.run_id, context.attempt, str(context.record.position), time.time()))
        if record.run_id == failing and context.attempt <= 4:
            raise RetryableError("not yet")

    async with serving(mesh_settings, Tier("evaluation", {RunRecord: score})):
        sent = await plain_client.send(RECORDS.name, record_body(failing), key=b"k", reply_to=None)
        await until(lambda: [run for run, *_ in seen].count(failing) == 4)
        await plain_client.send(RECORDS.name, record_body(good), key=b"k", reply_to=None)
        await until(lambda: [run for run, *_ in seen].count(failing) == 5)
    attempts = [entry for entry in seen if entry[0] == failing]
    assert [attempt for _, attempt, *_ in attempts] == [1, 2, 3, 4, 5]
    assert {position for _, _, position, _ in attempts} == {str(sent.position)}  # the position of the original record
    assert [run for run, *_ in seen][-2:] == [good, failing]
    assert attempts[4][3] - attempts[3][3] >= SHORT_DELAYS[0]


@pytest.mark.usefixtures("short_delays")
async def test_a_delayed_retry_survives_a_restart_of_the_worker(
    mesh_settings: MeshSettings, plain_client: PlainKafkaClient
) -> None:
    attempts: list[int] = []
    run = uuid4().hex

    def tier(*, fails: bool) -> Tier:
        async def score(record: RunRecord, context: Context) -> None:
            if record.run_id == run:
                attempts.append(context.attempt)
                if fails:
                    raise RetryableError("not yet")

        return Tier("evaluation", {RunRecord: score})

    async with serving(mesh_settings, tier(fails=True)) as mesh:
        await plain_client.send(RECORDS.name, record_body(run), key=b"k", reply_to=None)
        await until(lambda: len(attempts) == 4)
        waiting = retry_topic_name("evaluation", 10.0)
        async with asyncio.timeout(10):
            while not [r for r in await mesh.logs.read_topic(waiting) if run.encode() in (r.value or b"")]:
                pass
    async with serving(mesh_settings, tier(fails=False)):
        await until(lambda: attempts == [1, 2, 3, 4, 5])


@pytest.mark.usefixtures("short_delays")
async def test_a_message_that_never_succeeds_becomes_a_dead_letter(
    mesh_settings: MeshSettings, plain_client: PlainKafkaClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("poise.worker.retry_policy.RETRY_DELAYS", SHORT_DELAYS[:1])
    run = uuid4().hex

    async def score(record: RunRecord, _context: Context) -> None:
        if record.run_id == run:
            raise RetryableError("never")

    async with serving(mesh_settings, Tier("evaluation", {RunRecord: score})) as mesh:
        sent = await plain_client.send(RECORDS.name, record_body(run), key=b"k", reply_to=None)
        async with asyncio.timeout(20):
            while not (found := await dead_letter_errors(mesh, "evaluation", str(sent.position))):
                pass
        assert found == ["RetryableError"]


@pytest.mark.usefixtures("short_delays")
async def test_a_message_of_a_newer_version_waits_for_a_newer_worker(
    mesh_settings: MeshSettings, plain_client: PlainKafkaClient
) -> None:
    class NewGenerate(Generate):
        kind = "generate/2"

    def tier(kind: type[Generate]) -> Tier:
        async def write(_request: Generate, _context: Context) -> Completion:
            return Completion(text="understood", model="m", backend="b", finish_reason="stop")

        return Tier("inference", {kind: write})

    async with serving(mesh_settings, tier(Generate)) as mesh:
        sent = await plain_client.send(INFERENCE_INTERACTIVE.name, GENERATE, key=b"k", poise_kind="generate/2")
        async with asyncio.timeout(10):
            while not [
                r
                for r in await mesh.logs.read_topic(retry_topic_name("inference", 10.0))
                if r.header("poise-retry-of") == str(sent.position)
            ]:
                pass
    with pytest.MonkeyPatch.context() as patch:  # a worker of the next release
        upgraded = replace(INFERENCE_INTERACTIVE, accepts=(NewGenerate,))
        patch.setattr("poise.worker.tier.topics_of_tier", lambda _tier: (upgraded,))
        async with serving(mesh_settings, tier(NewGenerate)):
            reply = await plain_client.reply(sent)
            assert Completion.parse(reply.value or b"").text == "understood"


async def test_a_message_of_a_newer_version_with_a_near_deadline_is_refused(
    mesh_settings: MeshSettings, plain_client: PlainKafkaClient
) -> None:
    async def write(_request: Generate, _context: Context) -> Completion:
        raise AssertionError("it cannot be understood")

    async with serving(mesh_settings, Tier("inference", {Generate: write})) as mesh:
        deadline = str(round((time.time() + 8) * 1_000))  # earlier than the first delay ends
        sent = await plain_client.send(
            INFERENCE_INTERACTIVE.name, GENERATE, key=b"k", poise_kind="generate/2", poise_deadline=deadline
        )
        fault = Fault.parse((await plain_client.reply(sent)).value or b"")
        assert fault.type == "urn:poise:invalid"
        assert "generate/2" in fault.detail
        assert await dead_letter_errors(mesh, "inference", str(sent.position)) == ["NewerVersionError"]


async def test_the_retry_budget_limits_the_attempts_of_many_failures(mesh_settings: MeshSettings) -> None:
    """Let 600 requests fail at once: three more attempts for each would make 2,400."""
    attempts = 0

    async def fail(_request: Generate, _context: Context) -> Completion:
        nonlocal attempts
        attempts += 1
        raise RetryableError("the model is down")

    request = Generate.parse(GENERATE)
    async with serving(mesh_settings, Tier("inference", {Generate: fail})) as mesh:
        started = time.time()
        calls = (mesh.rpc.call(request, CallOptions(run=uuid4().hex, step="g")) for _ in range(600))
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        took = time.time() - started
    assert all(isinstance(outcome, Exception) for outcome in outcomes)
    assert 600 <= attempts <= 600 + 100 + 0.2 * 600 + 10 * (took + 1)
