from typing import Any

import pytest

from poise.contracts import Answer, Draw, Fault, Generation, Passage, RunRecord, StepRecord
from poise_services.evaluation.run_scores import score_run

TEXT = "The lamp of Harrow Point was lit in 1847 by the keeper Ada Quill. It burns whale oil."
PASSAGE = Passage(id="lamp#0", source="lamp", text=TEXT, score=1.0, age=1.0)
QUESTION = "Who lit the lamp of Harrow Point?"
RIGHT = "The lamp of Harrow Point was lit by the keeper Ada Quill."
WRONG = "It was lit by Bruno Falk in 1902 with gas from Norway."
DRAW = Draw(variant="small", probability=0.25, policy="answer", policy_version=7, raw=RIGHT, finish_reason="stop")


def answer(text: str = RIGHT, **changes: Any) -> Answer:
    return Answer(run_id="run", text=text, **{"rung": "primary", "variant": "small"} | changes)


def record(**changes: Any) -> RunRecord:
    given: dict[str, Any] = {
        "run_id": "run",
        "workflow": "answer",
        "tenant": "acme",
        "question": QUESTION,
        "started": 1_000.0,
        "finished": 1_001.25,
        "answer": answer(),
        "draw": DRAW,
        "steps": (StepRecord(step="retrieve", ms=20.5), StepRecord(step="generate", ms=900.0)),
        "passages": (PASSAGE,),
    }
    return RunRecord(**given | changes)


def values(**changes: Any) -> dict[str, float]:
    return score_run(record(**changes)).values


def test_a_score_identifies_its_run() -> None:
    found = score_run(record())
    assert (found.run_id, found.workflow, found.tenant) == ("run", "answer", "acme")
    assert (found.policy, found.policy_version, found.variant, found.probability) == ("answer", 7, "small", 0.25)
    assert (found.rung, found.at) == ("primary", 1_001.25)


def test_each_step_and_the_run_have_a_latency() -> None:
    found = values()
    assert found["latency_ms.retrieve"] == 20.5
    assert found["latency_ms.generate"] == 900.0
    assert found["latency_ms.total"] == 1_250.0


def test_a_truncated_text_is_not_scored() -> None:
    whole = values()
    for cut, missing in (
        (("steps",), set()),
        (("generations",), set()),
        (("answer",), {"groundedness"}),
        (("draw",), {"raw_groundedness", "raw_relevance", "quality", "truncated"}),
        (("passages", "steps"), {"groundedness", "raw_groundedness", "quality"}),
    ):
        found = values(shortened=cut)
        assert missing.isdisjoint(found)
        assert {"latency_ms.total", "error", "raw_fault"} <= found.keys()
        assert missing or found == whole


def test_a_supported_answer_is_more_grounded_than_an_unsupported_one() -> None:
    found, invented = values(), values(answer=answer(WRONG), draw=DRAW.model_copy(update={"raw": WRONG}))
    assert found["groundedness"] > 0.7 > invented["groundedness"]
    assert found["raw_groundedness"] > 0.7 > invented["raw_groundedness"]


def test_a_variant_is_scored_by_its_own_text_when_a_lower_rung_answered() -> None:
    sent = answer(
        "The lamp of Harrow Point was lit in 1847 by the keeper Ada Quill.",
        rung="extractive",
        variant=None,
        reason="not grounded",
    )
    found = score_run(record(answer=sent, draw=DRAW.model_copy(update={"raw": WRONG})))
    assert (found.rung, found.variant) == ("extractive", "small")
    assert found.values["groundedness"] > 0.7 > found.values["raw_groundedness"]


@pytest.mark.parametrize(
    ("raw", "finish", "names"),
    [
        (RIGHT, "stop", set()),
        ("", "stop", {"empty"}),
        (" \n", "stop", {"empty"}),
        ("The lamp was lit by the", "length", {"truncated"}),
        ("the lamp the lamp " * 40, "length", {"degenerate", "truncated"}),
    ],
    ids=["sound", "nothing", "white space", "cut off", "looping"],
)
def test_degenerate_output_is_named(raw: str, finish: str, names: set[str]) -> None:
    found = values(draw=DRAW.model_copy(update={"raw": raw, "finish_reason": finish}))
    assert {name for name in ("empty", "degenerate", "truncated") if found[name]} == names


def test_a_canned_answer_has_no_groundedness() -> None:
    found = score_run(
        record(answer=answer("I do not know.", rung="canned", variant=None), draw=DRAW.model_copy(update={"raw": None}))
    )
    assert found.rung == "canned"
    assert not found.values.keys() & {"groundedness", "raw_groundedness", "empty", "degenerate", "truncated"}


def test_a_run_that_ended_with_a_fault_is_an_error() -> None:
    fault = Fault(type="urn:poise:failed", title="Failed", status=500, detail="it failed", retryable=False)
    found = score_run(record(answer=None, fault=fault, draw=None, steps=(), passages=()))
    assert (found.rung, found.variant, found.probability) == ("none", "none", 1.0)
    assert found.values == {"error": 1.0, "latency_ms.total": 1_250.0}


def test_a_run_without_fault_is_no_error() -> None:
    assert values()["error"] == 0.0


def test_scoring_is_pure() -> None:
    assert score_run(record()) == score_run(record())


OF_THE_DRAW = {
    "quality",
    "raw_ms",
    "raw_cost",
    "raw_fault",
    "raw_groundedness",
    "raw_relevance",
    "empty",
    "degenerate",
    "truncated",
    "refused",
}


def test_a_variant_that_was_not_called_has_no_score() -> None:
    left_alone = DRAW.model_copy(update={"raw": None, "skipped": "it failed lately"})
    other = (Generation(variant="big", raw=WRONG), Generation(variant="big", fault="urn:poise:unavailable"))
    found = score_run(record(draw=left_alone, generations=other, answer=answer(rung="variant", variant="big")))
    assert (found.variant, found.probability, found.rung) == ("small", 0.25, "variant")
    assert not found.values.keys() & OF_THE_DRAW


def test_a_cached_answer_counts_for_no_variant() -> None:
    found = score_run(record(cached=True, answer=answer(cached=True, age=9.0), draw=DRAW, passages=()))
    assert not found.values.keys() & (OF_THE_DRAW | {"groundedness"})


def test_a_stale_answer_without_passages_is_not_ungrounded() -> None:
    """Score a stale answer sent while retrieval is down: its passages are not in the record of this run."""
    sent = answer(rung="stale", cached=True, age=9.0)
    assert "groundedness" not in values(answer=sent, draw=None, passages=())
    assert values(answer=sent, draw=None)["groundedness"] > 0.7


def test_a_failed_variant_counts() -> None:
    failed = (Generation(variant="small", fault="urn:poise:unavailable"), Generation(variant="big", raw=RIGHT))
    found = values(draw=DRAW.model_copy(update={"raw": None}), generations=failed)
    assert found["raw_fault"] == 1.0
    assert values()["raw_fault"] == 0.0


NOTHING = DRAW.model_copy(update={"raw": None})
FAULT = (Generation(variant="small", fault="urn:poise:unavailable"),)


@pytest.mark.parametrize(
    ("raw", "finish"),
    [
        ("", "stop"),
        ("The lamp was lit by the", "length"),
        ("the lamp the lamp " * 40, "stop"),
        ("I am sorry, I cannot answer that.", "stop"),
    ],
    ids=["nothing", "cut off", "looping", "a refusal"],
)
def test_degenerate_output_has_no_quality(raw: str, finish: str) -> None:
    assert values(draw=DRAW.model_copy(update={"raw": raw, "finish_reason": finish}))["quality"] == 0.0


def test_a_fault_has_no_quality() -> None:
    assert values(draw=NOTHING, generations=FAULT)["quality"] == 0.0


def test_quality_is_a_probability_that_separates_supported_answers() -> None:
    right, wrong = values()["quality"], values(draw=DRAW.model_copy(update={"raw": WRONG}))["quality"]
    assert 0.0 < wrong < 0.35
    assert 0.5 < right < 1.0


@pytest.mark.parametrize("raw", [RIGHT, "I do not know."], ids=["an answer", "a refusal"])
def test_without_a_relevant_passage_there_is_no_quality(raw: str) -> None:
    """Check an answer and a refusal: the refusal is right here, and made-up text looks like supported text."""
    found = values(draw=DRAW.model_copy(update={"raw": raw}), question="Which volcano erupted yesterday?")
    assert "quality" not in found


def test_latency_and_cost_are_those_of_the_variant() -> None:
    found = values(draw=DRAW.model_copy(update={"ms": 812.5, "cost": 0.0025}))
    assert (found["raw_ms"], found["raw_cost"]) == (812.5, 0.0025)
    assert not values().keys() & {"raw_ms", "raw_cost"}


def test_the_same_question_has_the_same_digest() -> None:
    digests = {score_run(record(question=asked)).question for asked in (QUESTION, f"  {QUESTION.upper()} ")}
    assert len(digests) == 1
    assert score_run(record(question="Who put it out?")).question not in digests
