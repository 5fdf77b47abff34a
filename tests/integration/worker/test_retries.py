"""What becomes of a message that may be handled later: in place, put off, or left for a newer worker."""

import asyncio
import time
from dataclasses import replace
from uuid import uuid4

import pytest
from integration_kit import Outsider, serving, until

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

SOON = (3.0, 60.0, 600.0)
GENERATE = Generate(messages=(ChatMessage(role="user", content="x"),)).encode()


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first delay is short; its topic keeps its name."""
    monkeypatch.setattr("poise.worker.retry_policy.RETRY_DELAYS", SOON)
    monkeypatch.setattr(
        "poise.worker.delayed_retries.retry_topic_name",
        lambda tier, delay: retry_topic_name(tier, 10.0 if delay == SOON[0] else delay),
    )


def a_record(run: str) -> bytes:
    return RunRecord.model_validate(
        {"run_id": run, "workflow": "w", "tenant": "t", "question": "q", "started": 1.0, "finished": 2.0}
    ).encode()


async def dead(mesh: WorkerRuntime, tier: str, origin: str) -> list[str]:
    letters = read_dead(tier, await mesh.logs.read_topic(f"poise.{tier}.dead"))
    return [letter.error for letter in letters if letter.record.header("poise-origin") == origin]


@pytest.mark.usefixtures("soon")
async def test_what_nobody_waits_for_is_put_off_and_holds_up_nobody(
    mesh_settings: MeshSettings, outsider: Outsider
) -> None:
    seen: list[tuple[str, int, str, float]] = []
    troubled, calm = uuid4().hex, uuid4().hex

    async def judge(record: RunRecord, context: Context) -> None:
        seen.append((record.run_id, context.attempt, str(context.record.position), time.time()))
        if record.run_id == troubled and context.attempt <= 4:
            raise RetryableError("not yet")

    async with serving(mesh_settings, Tier("evaluation", {RunRecord: judge})):
        sent = await outsider.send(RECORDS.name, a_record(troubled), key=b"k", reply_to=None)
        await until(lambda: [run for run, *_ in seen].count(troubled) == 4)
        await outsider.send(RECORDS.name, a_record(calm), key=b"k", reply_to=None)
        await until(lambda: [run for run, *_ in seen].count(troubled) == 5)
    tries = [entry for entry in seen if entry[0] == troubled]
    assert [attempt for _, attempt, *_ in tries] == [1, 2, 3, 4, 5]
    assert {position for _, _, position, _ in tries} == {str(sent.position)}  # as if it stood where it stood first
    assert [run for run, *_ in seen][-2:] == [calm, troubled]
    assert tries[4][3] - tries[3][3] >= SOON[0]


@pytest.mark.usefixtures("soon")
async def test_what_waits_to_be_handled_again_survives_the_worker(
    mesh_settings: MeshSettings, outsider: Outsider
) -> None:
    attempts: list[int] = []
    run = uuid4().hex

    def tier(*, fails: bool) -> Tier:
        async def judge(record: RunRecord, context: Context) -> None:
            if record.run_id == run:
                attempts.append(context.attempt)
                if fails:
                    raise RetryableError("not yet")

        return Tier("evaluation", {RunRecord: judge})

    async with serving(mesh_settings, tier(fails=True)) as mesh:
        await outsider.send(RECORDS.name, a_record(run), key=b"k", reply_to=None)
        await until(lambda: len(attempts) == 4)
        waiting = retry_topic_name("evaluation", 10.0)
        async with asyncio.timeout(10):
            while not [r for r in await mesh.logs.read_topic(waiting) if run.encode() in (r.value or b"")]:
                pass
    async with serving(mesh_settings, tier(fails=False)):
        await until(lambda: attempts == [1, 2, 3, 4, 5])


@pytest.mark.usefixtures("soon")
async def test_what_never_succeeds_becomes_a_dead_letter_in_the_end(
    mesh_settings: MeshSettings, outsider: Outsider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("poise.worker.retry_policy.RETRY_DELAYS", SOON[:1])
    run = uuid4().hex

    async def judge(record: RunRecord, _context: Context) -> None:
        if record.run_id == run:
            raise RetryableError("never")

    async with serving(mesh_settings, Tier("evaluation", {RunRecord: judge})) as mesh:
        sent = await outsider.send(RECORDS.name, a_record(run), key=b"k", reply_to=None)
        async with asyncio.timeout(20):
            while not (found := await dead(mesh, "evaluation", str(sent.position))):
                pass
        assert found == ["RetryableError"]


@pytest.mark.usefixtures("soon")
async def test_a_newer_version_is_left_for_a_newer_worker(mesh_settings: MeshSettings, outsider: Outsider) -> None:
    class NewGenerate(Generate):
        kind = "generate/2"

    def tier(kind: type[Generate]) -> Tier:
        async def write(_request: Generate, _context: Context) -> Completion:
            return Completion(text="understood", model="m", backend="b", finish_reason="stop")

        return Tier("inference", {kind: write})

    async with serving(mesh_settings, tier(Generate)) as mesh:
        sent = await outsider.send(INFERENCE_INTERACTIVE.name, GENERATE, key=b"k", poise_kind="generate/2")
        async with asyncio.timeout(10):
            while not [
                r
                for r in await mesh.logs.read_topic(retry_topic_name("inference", 10.0))
                if r.header("poise-retry-of") == str(sent.position)
            ]:
                pass
    with pytest.MonkeyPatch.context() as patch:  # the worker of the next release
        upgraded = replace(INFERENCE_INTERACTIVE, accepts=(NewGenerate,))
        patch.setattr("poise.worker.tier.topics_of_tier", lambda _tier: (upgraded,))
        async with serving(mesh_settings, tier(NewGenerate)):
            reply = await outsider.reply(sent)
            assert Completion.parse(reply.value or b"").text == "understood"


async def test_a_newer_version_that_nobody_has_time_for_is_refused(
    mesh_settings: MeshSettings, outsider: Outsider
) -> None:
    async def write(_request: Generate, _context: Context) -> Completion:
        raise AssertionError("it cannot be understood")

    async with serving(mesh_settings, Tier("inference", {Generate: write})) as mesh:
        deadline = str(round((time.time() + 8) * 1_000))  # less than the first delay
        sent = await outsider.send(
            INFERENCE_INTERACTIVE.name, GENERATE, key=b"k", poise_kind="generate/2", poise_deadline=deadline
        )
        fault = Fault.parse((await outsider.reply(sent)).value or b"")
        assert fault.type == "urn:poise:invalid"
        assert "generate/2" in fault.detail
        assert await dead(mesh, "inference", str(sent.position)) == ["NewerVersionError"]


async def test_a_flood_of_failures_is_not_multiplied(mesh_settings: MeshSettings) -> None:
    """Every one of 600 requests fails at once: with three tries more for each there would be 2,400 attempts."""
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
