"""Integrations beside retrieval: replies are evidence, and missing ones are recorded in `degraded`."""

from collections.abc import Mapping
from typing import Any

import pytest
from scripted_run import Reply, ScriptedRun

from poise.contracts import (
    Answer,
    Ask,
    Completion,
    Fault,
    Fetch,
    Fetched,
    Generate,
    Passage,
    Passages,
    Request,
    Retrieve,
)
from poise.errors import DeadlineExceededError, FaultError, PoiseError, UnavailableError
from poise_services.orchestration.handlers import handlers
from poise_services.orchestration.settings import OrchestrationSettings

ASK = Ask(question="Who lit the lamp of Harrow Point?")
SENTENCE = "The lamp of Harrow Point was lit in 1847 by the keeper Ada Quill."
STEPS = Passage(id="lamp#0", source="lamp", text="The lighthouse has 112 steps.", score=1.0, age=1.0)
FOUND = Passages(passages=(STEPS,), epoch="e1.AAAA.0~1~1000")
NOTHING = Passages(passages=(), epoch="e1.AAAA.0~1~1000", mode="none")
SAID = Fetched(integration="almanac", text=SENTENCE, source="The almanac")
WROTE = Completion(text=SENTENCE, model="m", backend="default", finish_reason="stop")


def fault(type_: str, detail: str) -> FaultError:
    return FaultError(Fault(type=f"urn:poise:{type_}", title="It failed", status=502, detail=detail, retryable=False))


async def answered(
    said: Reply, found: Reply = FOUND, names: tuple[str, ...] = ("almanac",)
) -> tuple[Answer, ScriptedRun]:
    replies: Mapping[type[Request[Any]], Reply] = {Retrieve: found, Fetch: said, Generate: WROTE}
    run = ScriptedRun(replies)
    answer = await handlers(OrchestrationSettings(integrations=names))[Ask](ASK, run)  # type: ignore[arg-type]
    assert isinstance(answer, Answer)
    return answer, run


async def test_an_integrations_reply_is_evidence_like_any_passage() -> None:
    answer, run = await answered(SAID)
    assert (answer.text, answer.rung, answer.retrieval, answer.degraded) == (SENTENCE, "primary", "hybrid", ())
    assert [(c.source, c.passage, c.quote) for c in answer.citations] == [
        ("The almanac", "integration:almanac#0", SENTENCE)
    ]
    assert Fetch(integration="almanac", parameters={"question": ASK.question}) in run.requests
    assert answer.timings.keys() == {"retrieve", "fetch.almanac", "generate", "total"}


async def test_an_integration_alone_can_answer() -> None:
    answer, _ = await answered(SAID, found=NOTHING)
    assert (answer.text, answer.rung, answer.retrieval) == (SENTENCE, "primary", "none")

    answer, _ = await answered(SAID, found=UnavailableError("retrieval is away"))
    assert (answer.text, answer.rung) == (SENTENCE, "primary")
    assert "retrieval is away" in answer.degraded[0]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            fault("integration-empty", "integration almanac answered 200 with nothing in it"),
            "integration almanac answered 200 with nothing in it",
        ),
        (fault("rate-limited", "slow down"), "integration almanac failed: it failed: slow down"),
        (DeadlineExceededError("no reply in time"), "integration almanac failed: no reply in time"),
        (UnavailableError("no worker"), "integration almanac failed: no worker"),
    ],
)
async def test_an_empty_integration_is_skipped_and_recorded(error: PoiseError, said: str) -> None:
    answer, _ = await answered(
        error, found=Passages(passages=(STEPS.model_copy(update={"text": SENTENCE}),), epoch="e")
    )
    assert (answer.text, answer.rung) == (SENTENCE, "primary")
    assert answer.degraded == (said,)


async def test_a_stale_reply_is_marked_with_its_age() -> None:
    answer, _ = await answered(SAID.model_copy(update={"age": 61.2, "reason": "integration almanac answered 503: x"}))
    assert (answer.text, answer.rung) == (SENTENCE, "primary")
    assert answer.degraded == (
        "integration almanac: its reply of 61 s ago is used instead: integration almanac answered 503: x",
    )


async def test_an_integration_has_a_fraction_of_the_time() -> None:
    _, run = await answered(SAID, names=("almanac", "tides"))
    assert set(run.timeouts) >= {"fetch.almanac", "fetch.tides"}
    assert 0 < run.timeouts["fetch.almanac"] <= 0.25 * run.left


async def test_without_integrations_nothing_is_asked() -> None:
    _, run = await answered(AssertionError("it was asked"), names=())
    assert not [request for request in run.requests if isinstance(request, Fetch)]


async def test_unresponsive_tiers_do_not_delay_every_ask() -> None:
    silence = DeadlineExceededError("no reply in time")
    answering = handlers(OrchestrationSettings(integrations=("almanac",)))[Ask]
    answers: list[Answer] = []
    for number in range(7):
        run = ScriptedRun({Retrieve: silence, Fetch: silence, Generate: WROTE})
        answer = await answering(ASK, run)  # type: ignore[arg-type]
        assert isinstance(answer, Answer)
        assert (answer.rung, bool(run.requests)) == ("canned", number < 5)
        answers.append(answer)
    assert "skipped for a while: no reply in time" in (answers[-1].reason or "")
    assert any("integration almanac" in note and "skipped for a while" in note for note in answers[-1].degraded)
