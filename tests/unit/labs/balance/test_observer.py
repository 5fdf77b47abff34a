"""Records of the topics become the timeline. A test on a real Kafka checks that the topics are followed."""

from typing import Any, cast

import pytest
from decider_kit import DeciderFeed, score_of, spec

from poise.contracts.policy import Decision, PolicyState
from poise.worker.runtime import WorkerRuntime
from poise_labs.balance.observer import BalanceObserver, events_of
from poise_labs.balance.timeline import Timeline


@pytest.fixture
def observer() -> BalanceObserver:
    return BalanceObserver(cast(WorkerRuntime, None), Timeline(("steady", "cheap"), 0.0, 0.0), "answer")


def test_answer_scored_repeatedly_counts_once(observer: BalanceObserver) -> None:
    for _ in range(2):
        observer.apply(score_of("run-1", "steady"))
    observer.apply(score_of("run-1", "steady", feedback="f-1"))
    observer.apply(score_of("run-2", "cheap", good=False, feedback="f-2"))
    assert [(one.variant, one.quality) for one in observer.timeline.answers] == [("steady", 1.0)]


def test_score_without_the_steering_value_is_ignored(observer: BalanceObserver) -> None:
    observer.apply(score_of("run-1", "steady", values={"error": 1.0}))
    assert observer.timeline.answers == []


def state_of(fed: DeciderFeed) -> PolicyState:
    return PolicyState(name="answer", next_score_offset=0, next_command_offset=0, decider=fed.decider.snapshot())


def test_evidence_is_that_of_the_detector_and_then_of_the_recovery(observer: BalanceObserver) -> None:
    fed = DeciderFeed(spec(min_share=0.2, step=0.35, mean_answers_between_false_alarms=1_000))
    for number in range(10):
        fed.see(score_of(f"a-{number}", "steady"), score_of(f"b-{number}", "cheap"))
    observer.apply(state_of(fed))
    calm = observer.timeline.evidence
    assert calm is not None
    assert not calm.recovery
    assert calm.threshold == pytest.approx(1_050)
    made: list[Decision] = []
    while not made:
        number += 1
        made = fed.see(score_of(f"a-{number}", "steady"), score_of(f"b-{number}", "cheap", good=False))
        if not made:
            observer.apply(state_of(fed))
    worse = observer.timeline.evidence
    assert worse is not None
    assert worse.value > 100 * calm.value
    observer.apply(state_of(fed))
    after = observer.timeline.evidence
    assert after is not None
    assert (after.recovery, after.threshold) == (True, 20.0)


@pytest.mark.parametrize(
    ("action", "kind"),
    [("shift", "noticed"), ("roll back", "noticed"), ("promote", "restored"), ("set", "set"), ("hold", "note")],
)
def test_each_decision_becomes_an_event_of_its_kind(action: Any, kind: str) -> None:
    decision = Decision(
        id="answer-1",
        policy="answer",
        action=action,
        acted=True,
        reason="why",
        before={},
        after={},
        version=1,
        by="loop",
        at=3.0,
        next_score_offset=0,
    )
    (mark,) = events_of(decision)
    assert (mark.kind, mark.at) == (kind, 3.0)
    assert "why" in mark.text


def test_state_of_a_newer_worker_is_skipped(observer: BalanceObserver) -> None:
    observer.apply(PolicyState(name="answer", next_score_offset=0, next_command_offset=0, decider={"format": 99}))
    assert observer.timeline.evidence is None
