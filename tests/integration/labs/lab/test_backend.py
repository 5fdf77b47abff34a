"""The scripted backend answers the inference tier's client over real connections; `is_hurt` judges its answers."""

import pytest

from poise.contracts import ChatMessage, Draw, Generate, Generation, RunRecord
from poise.contracts.policy import Limits
from poise.contracts.record import SKIPPED_AFTER_FAILURES
from poise.errors import RetryableError
from poise_labs.lab.backend import ScriptedBackend
from poise_labs.lab.experiment import is_hurt
from poise_labs.lab.questions import LabQuestion, sample_questions
from poise_labs.lab.scenario import Degradation, HarmKind, LabVariant, Scenario
from poise_services.inference.model_client import ModelClient
from poise_services.inference.settings import Backend

pytestmark = pytest.mark.integration


def scenario(hurt: HarmKind = "wrong", **degradation: float) -> Scenario:
    return Scenario(
        about="x",
        hurt=hurt,
        asks=10,
        rate=1,
        policy=Limits(max_latency=0.001),
        variants=(LabVariant(name="steady", seconds=0), LabVariant(name="cheap", seconds=0)),
        degradation=Degradation(variant="cheap", begins=5, ends=10, **degradation),
    )


def chat(question: LabQuestion) -> Generate:
    content = f"{question.fact.sentence}\nIt rains.\n\n{question.text} Answer with words from the text above."
    return Generate(messages=(ChatMessage(role="user", content=content),))


def server(backend: ScriptedBackend, variant: str) -> ModelClient:
    return ModelClient(variant, Backend.model_validate({"url": backend.url_of(variant), "model": variant}))


def record(question: LabQuestion, **fields: object) -> RunRecord:
    draw = {"variant": "cheap", "probability": 0.5, "policy": "p", "policy_version": 1, **fields}
    generations = (Generation(variant="cheap", fault="urn:poise:unavailable"),) if "raw" not in draw else ()
    return RunRecord(
        run_id="r", workflow="answer", tenant="t", question=question.text, started=0.0, finished=1.0,
        draw=Draw.model_validate(draw), generations=generations,
    )  # fmt: skip


async def test_it_answers_whole_or_streamed_and_records_its_answers() -> None:
    questions, written = sample_questions(10, 1), list[str]()

    async def write(text: str) -> None:
        written.append(text)

    async with ScriptedBackend(scenario(wrong=1.0), questions, 1) as backend, server(backend, "cheap") as model:
        whole = await model.complete(chat(questions[0]), remaining=10.0)
        streamed = await model.complete(chat(questions[5]), remaining=10.0, write=write)
    right, wrong = backend.outcome("cheap", 0), backend.outcome("cheap", 5)
    assert right is not None
    assert wrong is not None
    assert right.answer is not None
    assert wrong.answer is not None
    assert (whole.text, right.answer.right, right.answer.harmed) == (right.answer.text, True, False)
    assert questions[0].right(whole.text)
    assert streamed.text.strip() == "".join(written).strip() == wrong.answer.text
    assert (wrong.answer.right, wrong.answer.harmed) == (False, True)
    assert backend.outcome("steady", 0) is None


async def test_a_wrong_answer_of_the_degraded_variant_hurts() -> None:
    questions, script = sample_questions(10, 1), scenario(wrong=1.0)
    async with ScriptedBackend(script, questions, 1) as backend, server(backend, "cheap") as model:
        for number in (0, 5):
            await model.complete(chat(questions[number]), remaining=10.0)
    assert is_hurt(record(questions[5], raw="wrong"), 5, script, backend)
    assert not is_hurt(record(questions[0], raw="right"), 0, script, backend)
    assert not is_hurt(record(questions[5], raw="wrong", variant="steady"), 5, script, backend)


async def test_a_fault_during_the_degradation_and_a_skip_after_failures_hurt() -> None:
    questions, script = sample_questions(10, 1), scenario("failed", faults=1.0)
    async with ScriptedBackend(script, questions, 1) as backend, server(backend, "cheap") as model:
        with pytest.raises(RetryableError, match="503"):
            await model.complete(chat(questions[5]), remaining=10.0)
        await model.complete(chat(questions[0]), remaining=10.0)
    assert is_hurt(record(questions[5]), 5, script, backend)
    assert is_hurt(record(questions[6], skipped=f"cheap {SKIPPED_AFTER_FAILURES}: 503"), 6, script, backend)
    assert not is_hurt(record(questions[6], skipped="there are no passages"), 6, script, backend)
    assert not is_hurt(record(questions[0]), 0, script, backend)


async def test_an_answer_slowed_by_the_degradation_hurts_above_the_latency_limit() -> None:
    questions, script = sample_questions(10, 1), scenario("slow", slow=1.0, slow_by=0.01)
    async with ScriptedBackend(script, questions, 1) as backend, server(backend, "cheap") as model:
        await model.complete(chat(questions[5]), remaining=10.0)
    assert is_hurt(record(questions[5], raw="right", ms=10.0), 5, script, backend)
    assert not is_hurt(record(questions[5], raw="right", ms=0.5), 5, script, backend)


async def test_the_outage_cycle_begins_with_the_degradation() -> None:
    questions = sample_questions(10, 1)
    async with (
        ScriptedBackend(scenario("failed", down=3_600.0, up=1.0), questions, 1) as backend,
        server(backend, "cheap") as cheap,
        server(backend, "steady") as steady,
    ):
        await cheap.complete(chat(questions[5]), remaining=10.0)  # the degradation has not begun
        backend.start_degradation()
        with pytest.raises(RetryableError, match="503"):
            await cheap.complete(chat(questions[6]), remaining=10.0)
        await steady.complete(chat(questions[6]), remaining=10.0)
