"""A replayed run takes the same path, even if its new worker's breakers are in other states."""

from collections.abc import Mapping
from typing import Any

import pytest
from policy_records_kit import policy_of, policy_record
from scripted_run import ScriptedRun

from poise.contracts import Answer, Ask, Completion, Fault, Generate, Passage, Passages, Retrieve
from poise.errors import FaultError
from poise.redis.journal import Journal, JournalEntry
from poise.resilience.breaker import BreakerLimits
from poise.workflows.run import Run
from poise_services.orchestration.active_policy import PolicyFollower
from poise_services.orchestration.answer import AnswerWorkflow
from poise_services.orchestration.breakers import Breakers
from poise_services.orchestration.cache_hints import CacheHints, EarlierAnswer
from poise_services.orchestration.settings import OrchestrationSettings

SENTENCE = "The lamp of Harrow Point was lit in 1847 by the keeper Ada Quill."
FOUND = Passages(passages=(Passage(id="lamp#0", source="lamp", text=SENTENCE, score=1.0, age=1.0),), epoch="e1.AAAA")
AWAY = FaultError(Fault(type="urn:poise:unavailable", title="Unavailable", status=503, detail="away", retryable=True))
SETTINGS = OrchestrationSettings.model_validate(
    {
        "variants": [
            {"name": "a", "backend": "a"},
            {"name": "b", "backend": "b", "weight": 0},
            {"name": "c", "backend": "c", "weight": 0},
        ],
        "ladder": {"max_failovers": 2},
    }
)
ASK = Ask(question="Who lit the lamp of Harrow Point?")


class InMemoryJournal(Journal):
    """A journal in memory."""

    def __init__(self, entries: Mapping[str, JournalEntry]) -> None:
        self.entries = dict(entries)

    async def open(self) -> Mapping[str, JournalEntry] | None:
        return dict(self.entries)

    async def write(self, step: str, entry: JournalEntry) -> bool:
        self.entries[step] = entry
        return True


def breakers(*left_alone: str) -> Breakers:
    made = Breakers(SETTINGS.variants, BreakerLimits(min_calls=1), lambda: 0.0)
    for name in left_alone:
        made.record(name, made.admit(name), "failed")
    return made


async def answered(
    history: InMemoryJournal,
    here: Breakers,
    answers: Mapping[str, str | Exception],
    found: Any = FOUND,
    policy_follower: PolicyFollower | None = None,
) -> tuple[Answer, list[str]]:
    """Return the answer and the calls made for it."""

    def write(request: Generate) -> Completion | Exception:
        said = answers[request.backend]
        if isinstance(said, Exception):
            return said
        return Completion(text=said, model="m", backend=request.backend, finish_reason="stop")

    async def stale() -> EarlierAnswer | None:
        return EarlierAnswer("It was Ada Quill.", (), "b", "e0", 9.0, "it is old") if found is not FOUND else None

    door = ScriptedRun({Retrieve: found, Generate: write})
    run = Run(door, history)
    workflow = AnswerWorkflow(SETTINGS, breakers=here, policy_follower=policy_follower)
    answer = await run.execute(workflow.produce(run, ASK, CacheHints(stale)))
    asked = [request.backend if isinstance(request, Generate) else "retrieval" for request in door.requests]
    return answer.model_copy(update={"timings": {}}), asked


@pytest.mark.parametrize(
    ("first", "then", "answers", "found"),
    [
        ((), ("a", "b", "c"), {"a": AWAY, "b": AWAY, "c": SENTENCE}, FOUND),
        (("a",), (), {"a": SENTENCE, "b": AWAY, "c": SENTENCE}, FOUND),
        (("a", "b"), ("c",), {"a": SENTENCE, "b": SENTENCE, "c": SENTENCE}, FOUND),
        (("a", "b", "c"), (), {"a": SENTENCE, "b": SENTENCE, "c": SENTENCE}, FOUND),
        ((), ("a",), {"a": AWAY, "b": AWAY, "c": AWAY}, FOUND),
        ((), (), {}, AWAY),
    ],
    ids=["all of them in turn", "one left alone", "two left alone", "nobody", "all down", "no passages"],
)
async def test_a_replay_continues_the_same_way_from_any_step(
    first: tuple[str, ...], then: tuple[str, ...], answers: dict[str, str | Exception], found: Any
) -> None:
    whole = InMemoryJournal({})
    answer, asked = await answered(whole, breakers(*first), answers, found)
    steps = sorted(whole.entries.items(), key=lambda item: item[1].number)
    assert len(steps) >= 3
    for end in range(1, len(steps)):  # in a worker whose breakers are in the same states
        again, asked_again = await answered(InMemoryJournal(dict(steps[:end])), breakers(*first), answers, found)
        assert again == answer, f"interrupted after {steps[end - 1][0]}"
        paid = [step for step, entry in steps[:end] if entry.description.startswith("call ")]
        assert asked_again == asked[len(paid) :], "completed calls are not repeated"
    again, asked_again = await answered(InMemoryJournal(whole.entries), breakers(*then), answers, found)
    assert (again, asked_again) == (answer, [])


async def test_a_replayed_result_is_not_recorded_on_the_breaker() -> None:
    history = InMemoryJournal({})
    await answered(history, breakers(), {"a": AWAY, "b": SENTENCE, "c": SENTENCE})
    here = breakers()
    await answered(history, here, {})
    assert set(here.states().values()) == {"closed"}


def policies_of(*versions: int) -> PolicyFollower:
    """Return a policy whose odd versions draw b, and even ones c."""
    policy_follower = PolicyFollower(SETTINGS)
    for version in versions:
        policy_follower.apply(policy_record(policy_of(version, b=version % 2, c=1 - version % 2)))
    return policy_follower


@pytest.mark.parametrize("then", [(), (7, 8)], ids=["a worker that knows of no policy", "the policy moved"])
async def test_a_replay_asks_the_drawn_variant_whichever_policy_is_in_force(then: tuple[int, ...]) -> None:
    answers: dict[str, str | Exception] = {"a": AWAY, "b": SENTENCE, "c": SENTENCE}
    whole = InMemoryJournal({})
    answer, asked = await answered(whole, breakers(), answers, policy_follower=policies_of(7))
    assert (answer.variant, answer.rung, asked) == ("b", "primary", ["retrieval", "b"])
    steps = sorted(whole.entries.items(), key=lambda item: item[1].number)
    for end in range(1, len(steps) + 1):
        again, _ = await answered(
            InMemoryJournal(dict(steps[:end])), breakers(), answers, policy_follower=policies_of(*then)
        )
        assert again == answer, f"interrupted after {steps[end - 1][0]}"
    fresh, _ = await answered(InMemoryJournal({}), breakers(), answers, policy_follower=policies_of(7, 8))
    assert fresh.variant == "c", "without a journal it draws by the policy in force"
