"""The answer workflow on a run whose calls are answered from a script."""

import pytest
from policy_records_kit import policy_of, policy_record
from scripted_run import AskFunction

from poise.contracts import Fault, Generate, Passages, Retrieve, Usage
from poise.contracts.topics import RECORDS
from poise.errors import DeadlineExceededError, FaultError, PoiseError, UnavailableError
from poise_services.orchestration.active_policy import PolicyFollower
from poise_services.orchestration.run_record import MAX_PASSAGE_CHARS
from poise_services.orchestration.settings import OrchestrationSettings

RIGHT = "The lamp of Harrow Point was lit by the keeper Ada Quill."
WRONG = "It was lit by Bruno Falk in 1902 with gas from Norway."
EVIDENCE = "The lamp of Harrow Point was lit in 1847 by the keeper Ada Quill."
NOTHING = Passages(passages=(), epoch="e1.AAAA.0~1~1000", mode="none")
FAULT = Fault(type="urn:poise:unavailable", title="Unavailable", status=503, detail="it is away", retryable=True)

ERRORS = pytest.mark.parametrize(
    ("error", "type_", "said"),
    [
        (FaultError(FAULT), "urn:poise:unavailable", "it is away"),
        (DeadlineExceededError("no reply in time"), "urn:poise:deadline-exceeded", "no reply in time"),
        (UnavailableError("the broker is away"), "urn:poise:unavailable", "the broker is away"),
    ],
    ids=["a fault", "silence", "no broker"],
)


async def test_a_grounded_answer_of_the_model_is_sent(asking: AskFunction) -> None:
    asked = await asking(wrote=f" {RIGHT}\n")
    answer = asked.answer
    assert (answer.text, answer.rung, answer.reason, answer.variant) == (RIGHT, "primary", None, "default")
    assert answer.run_id == asked.run.run
    assert answer.epoch == "e1.AAAA.0~1~1000"
    assert [(c.source, c.passage, c.quote) for c in answer.citations] == [("The book of lamps", "lamp#0", EVIDENCE)]
    assert answer.timings.keys() == {"retrieve", "generate", "total"}


async def test_an_ungrounded_answer_is_replaced_by_an_extractive_one(asking: AskFunction) -> None:
    asked = await asking(wrote=WRONG)
    answer = asked.answer
    assert (answer.text, answer.rung, answer.variant) == (EVIDENCE, "extractive", None)
    assert "not grounded" in asked.reason
    assert "Falk" in asked.reason or "1902" in asked.reason, "it names what is not in the passages"
    assert [c.passage for c in answer.citations] == ["lamp#0"]


@pytest.mark.parametrize(
    ("wrote", "said"), [("", "wrote nothing"), (" \n\t", "wrote nothing"), ("ab " * 200, "repeated")]
)
async def test_an_empty_answer_is_rejected(asking: AskFunction, wrote: str, said: str) -> None:
    asked = await asking(wrote=wrote)
    assert (asked.answer.text, asked.answer.rung) == (EVIDENCE, "extractive")
    assert said in asked.reason
    assert ";" not in asked.reason, "a missing variant or cached answer is not a reason"


async def test_a_truncated_answer_is_rejected(asking: AskFunction) -> None:
    asked = await asking(wrote="The lamp of Harrow Point was lit in 1847 by the", finished="length")
    assert (asked.answer.text, asked.answer.rung) == (EVIDENCE, "extractive")
    assert "cut off" in asked.reason


async def test_a_refusal_is_rejected(asking: AskFunction) -> None:
    asked = await asking(wrote="I'm sorry, but the text does not mention who lit the lamp of Harrow Point.")
    assert (asked.answer.text, asked.answer.rung) == (EVIDENCE, "extractive")
    assert "declined" in asked.reason


@ERRORS
async def test_without_a_model_the_answer_is_extractive(
    asking: AskFunction, error: PoiseError, type_: str, said: str
) -> None:
    asked = await asking(wrote=error)
    assert (asked.answer.text, asked.answer.rung) == (EVIDENCE, "extractive")
    assert asked.reason.startswith("the model failed")
    assert said in asked.reason
    assert [(step.step, step.fault) for step in asked.record.steps] == [("retrieve", None), ("generate", type_)]
    assert asked.draw.raw is None


@ERRORS
async def test_without_retrieval_the_answer_is_canned(
    asking: AskFunction, error: PoiseError, type_: str, said: str
) -> None:
    asked = await asking(found=error, canned=[{"text": "Ask a librarian."}])
    assert (asked.answer.text, asked.answer.rung, asked.answer.citations) == ("Ask a librarian.", "canned", ())
    assert asked.reason.startswith("retrieval failed")
    assert said in asked.reason
    assert asked.answer.epoch is None
    assert [(step.step, step.fault) for step in asked.record.steps] == [("retrieve", type_)]
    assert [type(request) for request in asked.run.requests] == [Retrieve], "without passages, no model is asked"


async def test_without_passages_the_answer_is_canned(asking: AskFunction) -> None:
    asked = await asking(found=NOTHING)
    assert asked.answer.rung == "canned"
    assert "found nothing" in asked.reason
    assert asked.answer.epoch == NOTHING.epoch, "the epoch at which nothing was found"
    assert [type(request) for request in asked.run.requests] == [Retrieve]


@pytest.mark.parametrize("bug", [{"found": ValueError("a bug")}, {"wrote": ValueError("a bug")}], ids=str)
async def test_a_bug_does_not_fall_back(asking: AskFunction, bug: dict[str, Exception]) -> None:
    with pytest.raises(ValueError, match="a bug"):
        await asking(**bug)


async def test_an_answer_without_a_run_record_is_not_sent(asking: AskFunction) -> None:
    with pytest.raises(UnavailableError):
        await asking(wrote=RIGHT, run={"refuses": UnavailableError("the broker did not take it")})


# -- the steps' requests -----------------------------------------------------------------------------------------------


async def test_a_step_leaves_time_for_the_lower_rungs(asking: AskFunction) -> None:
    asked = await asking(deadline_reserve=0.25, run={"left": 40.0})
    assert asked.run.timeouts == {"retrieve": 30.0, "generate": 30.0}


async def test_the_reserve_does_not_shrink_while_steps_run(asking: AskFunction) -> None:
    """Check that the model has 5 of 40 seconds: retrieval takes 25 and 10, not a fraction of the rest, are reserved."""
    asked = await asking(deadline_reserve=0.25, run={"left": 40.0, "takes": 25.0})
    assert asked.run.timeouts == {"retrieve": 30.0, "generate": 5.0}


async def test_a_step_without_time_is_not_run(asking: AskFunction) -> None:
    asked = await asking(deadline_reserve=0.25, run={"left": 40.0, "takes": 35.0})
    assert "generate" not in asked.run.timeouts


async def test_retrieval_is_asked_the_question(asking: AskFunction) -> None:
    asked = await asking(top_k=3)
    assert asked.run.requests[0] == Retrieve(query="Who lit the lamp of Harrow Point?", limit=3)


async def test_the_request_has_the_parameters_of_the_drawn_variant(asking: AskFunction) -> None:
    variant = {"name": "big", "backend": "gpu", "max_tokens": 99, "temperature": 0.5, "prompt_sentences": 1}
    request = (await asking(variants=[variant])).run.requests[1]
    assert isinstance(request, Generate)
    assert (request.backend, request.max_tokens, request.temperature) == ("gpu", 99, 0.5)
    system, message = request.messages
    assert (system.role, system.content) == ("system", "")
    assert EVIDENCE in message.content
    assert "Who lit the lamp of Harrow Point?" in message.content
    assert "herring" not in message.content.lower(), "the variant takes one sentence"


async def test_a_model_that_refuses_an_empty_system_message_is_sent_none(asking: AskFunction) -> None:
    request = (await asking(variants=[{"name": "plain", "system": None}])).run.requests[1]
    assert isinstance(request, Generate)
    assert [message.role for message in request.messages] == ["user"]


# -- the record --------------------------------------------------------------------------------------------------------


async def test_the_record_has_all_that_scoring_needs(asking: AskFunction) -> None:
    asked = await asking(wrote=WRONG, variants=[{"name": "small", "weight": 3}], policy="p")
    record = asked.record
    assert (asked.topic, asked.key) == (RECORDS, asked.run.run)
    assert (record.run_id, record.tenant, record.workflow) == (asked.run.run, "acme", "answer")
    assert record.answer == asked.answer
    assert (asked.draw.variant, asked.draw.probability) == ("small", 1.0)
    assert (asked.draw.policy, asked.draw.policy_version) == ("p", 0), "no policy was set"
    assert (asked.draw.raw, asked.draw.finish_reason) == (WRONG, "stop"), "recorded although it was not sent"
    assert record.started <= record.finished
    assert [passage.id for passage in record.passages] == ["lamp#0", "sea#3"]
    assert {step.step: step.ms for step in record.steps}.items() <= asked.answer.timings.items()


async def test_the_record_truncates_long_passages(asking: AskFunction) -> None:
    long = "A long tale. " * 1_000
    found = Passages(passages=({"id": "a#0", "source": "a", "text": long, "score": 1, "age": 1},), epoch="e1.AAAA")
    (kept,) = (await asking(found=found)).record.passages
    assert kept.text == long[:MAX_PASSAGE_CHARS]


async def test_a_replayed_run_draws_the_same_variant(asking: AskFunction) -> None:
    variants = [{"name": "a"}, {"name": "b"}]
    drawn = {(await asking(variants=variants)).draw.variant for _ in range(5)}
    assert len(drawn) == 1


PRICED = {"name": "big", "input_token_price": 2.0, "output_token_price": 8.0}
USED = Usage(prompt_tokens=500, completion_tokens=125)


async def test_the_record_says_how_long_the_drawn_variant_took_and_what_it_cost(asking: AskFunction) -> None:
    asked = await asking(wrote=RIGHT, variants=[PRICED], used=USED)
    steps = {step.step: step.ms for step in asked.record.steps}
    assert asked.draw.ms == steps["generate"]
    assert asked.draw.cost == pytest.approx((500 * 2.0 + 125 * 8.0) / 1e6)


async def test_a_free_variant_costs_zero_and_one_without_prices_has_no_cost(asking: AskFunction) -> None:
    free = await asking(wrote=RIGHT, variants=[{**PRICED, "input_token_price": 0, "output_token_price": 0}], used=USED)
    assert free.draw.cost == 0.0
    assert (await asking(wrote=RIGHT, used=USED)).draw.cost is None
    assert (await asking(wrote=RIGHT, variants=[PRICED])).draw.cost is None, "the backend reports no tokens"


async def test_a_failed_generation_has_a_duration(asking: AskFunction) -> None:
    asked = await asking(wrote=FaultError(FAULT), variants=[PRICED])
    assert asked.draw.ms == {step.step: step.ms for step in asked.record.steps}["generate"]
    assert (asked.draw.cost, asked.draw.skipped) == (None, None)


async def test_the_draw_does_not_record_another_variants_answer(asking: AskFunction) -> None:
    variants = [{**PRICED, "backend": "big"}, {"name": "spare", "backend": "spare", "weight": 0}]
    asked = await asking(wrote={"big": FaultError(FAULT), "spare": RIGHT}, variants=variants, used=USED)
    assert (asked.answer.variant, asked.draw.variant) == ("spare", "big")
    assert (asked.draw.raw, asked.draw.cost) == (None, None)


async def test_a_variant_without_time_is_recorded_as_skipped(asking: AskFunction) -> None:
    asked = await asking(deadline_reserve=0.25, run={"left": 40.0, "takes": 35.0})
    assert asked.draw.ms is None
    assert asked.draw.skipped == "no time was left for it"


async def test_without_passages_the_drawn_variant_is_recorded_as_skipped(asking: AskFunction) -> None:
    asked = await asking(found=NOTHING)
    assert (asked.draw.ms, asked.draw.cost) == (None, None)
    assert asked.draw.skipped == "retrieval found nothing"


async def test_a_ladder_without_model_rungs_asks_no_model(asking: AskFunction) -> None:
    asked = await asking(rungs=["extractive", "canned"])
    assert asked.answer.rung == "extractive"
    assert asked.draw.skipped == "the ladder has no rung primary"
    assert [type(request) for request in asked.run.requests] == [Retrieve]


async def test_the_weights_in_force_decide_the_draw_and_the_failover(asking: AskFunction) -> None:
    variants = [{"name": name, "backend": name, "weight": float(name == "a")} for name in ("a", "b", "c")]
    policy_follower = PolicyFollower(OrchestrationSettings(variants=variants))
    policy_follower.apply(policy_record(policy_of(4, b=1.0)))
    asked = await asking(
        wrote={"a": RIGHT, "b": FaultError(FAULT), "c": RIGHT},
        variants=variants,
        max_failovers=1,
        policy_follower=policy_follower,
    )
    assert (asked.draw.variant, asked.draw.policy_version, asked.draw.probability) == ("b", 4, 1.0)
    assert asked.answer.variant == "a", "of the variants that are not drawn, the first by name"
    policy_follower.apply(policy_record(policy_of(5, b=0.999, c=0.001)))
    asked = await asking(
        wrote={"a": RIGHT, "b": FaultError(FAULT), "c": RIGHT},
        variants=variants,
        max_failovers=1,
        policy_follower=policy_follower,
    )
    assert (asked.draw.variant, asked.answer.variant) == ("b", "c"), "the policy gives it a weight"
