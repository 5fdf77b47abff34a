"""The scripted backend as the inference tier asks it, on real connections; and what counts as hurt of what it told."""

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


def scenario(hurt: HarmKind = "wrong", **trouble: float) -> Scenario:
    return Scenario(
        about="x",
        hurt=hurt,
        asks=10,
        rate=1,
        policy=Limits(max_latency=0.001),
        variants=(LabVariant(name="steady", seconds=0), LabVariant(name="cheap", seconds=0)),
        trouble=Degradation(variant="cheap", begins=5, ends=10, **trouble),
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


async def test_it_answers_whole_and_word_by_word_and_knows_what_it_said() -> None:
    some, words = sample_questions(10, 1), list[str]()

    async def write(more: str) -> None:
        words.append(more)

    async with ScriptedBackend(scenario(wrong=1.0), some, 1) as backend, server(backend, "cheap") as model:
        whole = await model.complete(chat(some[0]), remaining=10.0)
        streamed = await model.complete(chat(some[5]), remaining=10.0, write=write)
    right, wrong = backend.outcome("cheap", 0), backend.outcome("cheap", 5)
    assert right is not None
    assert wrong is not None
    assert right.answer is not None
    assert wrong.answer is not None
    assert (whole.text, right.answer.right, right.answer.troubled) == (right.answer.text, True, False)
    assert some[0].right(whole.text)
    assert streamed.text.strip() == "".join(words).strip() == wrong.answer.text
    assert (wrong.answer.right, wrong.answer.troubled) == (False, True)
    assert backend.outcome("steady", 0) is None


async def test_wrong_words_in_trouble_hurt_and_right_ones_or_those_of_another_do_not() -> None:
    some, given = sample_questions(10, 1), scenario(wrong=1.0)
    async with ScriptedBackend(given, some, 1) as backend, server(backend, "cheap") as model:
        for number in (0, 5):
            await model.complete(chat(some[number]), remaining=10.0)
    assert is_hurt(record(some[5], raw="wrong"), 5, given, backend)
    assert not is_hurt(record(some[0], raw="right"), 0, given, backend)
    assert not is_hurt(record(some[5], raw="wrong", variant="steady"), 5, given, backend)


async def test_a_fault_in_trouble_and_being_left_alone_hurt() -> None:
    some, given = sample_questions(10, 1), scenario("failed", faults=1.0)
    async with ScriptedBackend(given, some, 1) as backend, server(backend, "cheap") as model:
        with pytest.raises(RetryableError, match="503"):
            await model.complete(chat(some[5]), remaining=10.0)
        await model.complete(chat(some[0]), remaining=10.0)
    assert is_hurt(record(some[5]), 5, given, backend)
    assert is_hurt(record(some[6], skipped=f"cheap {SKIPPED_AFTER_FAILURES}: 503"), 6, given, backend)
    assert not is_hurt(record(some[6], skipped="there are no passages"), 6, given, backend)
    assert not is_hurt(record(some[0]), 0, given, backend)


async def test_what_is_slow_because_of_the_trouble_hurts_when_it_took_longer_than_the_ceiling() -> None:
    some, given = sample_questions(10, 1), scenario("slow", slow=1.0, slow_by=0.01)
    async with ScriptedBackend(given, some, 1) as backend, server(backend, "cheap") as model:
        await model.complete(chat(some[5]), remaining=10.0)
    assert is_hurt(record(some[5], raw="right", ms=10.0), 5, given, backend)
    assert not is_hurt(record(some[5], raw="right", ms=0.5), 5, given, backend)


async def test_down_and_up_begins_with_the_trouble() -> None:
    some = sample_questions(10, 1)
    async with (
        ScriptedBackend(scenario("failed", down=3_600.0, up=1.0), some, 1) as backend,
        server(backend, "cheap") as cheap,
        server(backend, "steady") as steady,
    ):
        await cheap.complete(chat(some[5]), remaining=10.0)  # nobody has said that it began
        backend.start_trouble()
        with pytest.raises(RetryableError, match="503"):
            await cheap.complete(chat(some[6]), remaining=10.0)
        await steady.complete(chat(some[6]), remaining=10.0)
