"""The decider: its response to a variant with an incident, and the scores that it counts."""

import json
import math

import pytest
from counting_detectors import ENOUGH
from decider_kit import DeciderFeed, actions, chained, score_of, spec

from poise.policy import incident_response, seen_runs
from poise.policy.detection import Detectors

pytestmark = pytest.mark.usefixtures("_plain")


def test_a_variant_in_trouble_loses_its_share_in_steps_and_regains_it() -> None:
    fed = DeciderFeed(spec(step=0.25, cooldown_answers=3))
    assert actions(fed.answers("cheap", ENOUGH, good=False)) == [("shift", "cheap", True)]
    assert fed.shares == {"steady": 0.75, "cheap": 0.25}
    assert fed.answers("steady", 2) == []
    assert actions(fed.answers("steady", 20)) == [("roll back", "cheap", True)]
    assert fed.shares == {"steady": 0.95, "cheap": 0.05}

    assert actions(fed.answers("cheap", ENOUGH)) == [("promote", "cheap", True)]
    assert fed.shares == {"steady": 0.7, "cheap": 0.3}
    assert fed.answers("cheap", ENOUGH - 1) == []  # the next step needs a new test
    assert actions(fed.answers("cheap", 1)) == [("promote", "cheap", True)]
    assert fed.shares == {"steady": 0.5, "cheap": 0.5}
    assert fed.answers("cheap", 20) == []
    assert chained(fed.decisions)
    assert actions(fed.answers("cheap", ENOUGH, good=False)) == [("shift", "cheap", True)]  # alarms are raised again


def test_the_reason_says_what_was_found_and_where_the_share_goes() -> None:
    fed = DeciderFeed(spec(step=0.25))
    (shift,) = fed.answers("cheap", ENOUGH, good=False)
    assert shift.reason == (
        "cheap answers worse than the others: quality 0.00 (0.00–0.00) in 5 answers; its share goes from 50 % to 25 %"
    )
    assert shift.finding is not None
    assert shift.finding.runs == (f"run-{fed.offset - 1}",)
    assert (shift.by, shift.at, shift.next_score_offset) == ("loop", fed.offset - 1.0, fed.offset)
    (further,) = fed.answers("steady", 1)
    assert further.reason.startswith("cheap has not recovered (it was: cheap answers worse")
    (back,) = fed.answers("cheap", ENOUGH)
    assert back.reason == (
        "cheap has recovered: quality 1.00 (1.00–1.00) in 5 answers; its share goes from 5 % to 30 %"
    )


def test_a_variant_that_recovers_during_the_decrease_is_restored() -> None:
    fed = DeciderFeed(spec(step=0.2, cooldown_answers=8))
    fed.answers("cheap", ENOUGH, good=False)
    assert fed.shares["cheap"] == 0.3
    assert actions(fed.answers("cheap", 8)) == [("promote", "cheap", True)]
    assert fed.shares == {"steady": 0.5, "cheap": 0.5}


def test_a_variant_that_relapses_during_the_restore_is_decreased_again() -> None:
    fed = DeciderFeed(spec({"steady": 9, "cheap": 1}, step=0.5))
    fed.answers("steady", ENOUGH, good=False)
    fed.answers("cheap", 1)
    assert fed.shares["steady"] == 0.05
    fed.answers("steady", ENOUGH)
    assert fed.shares["steady"] == 0.55
    assert actions(fed.answers("steady", ENOUGH, good=False)) == [("roll back", "steady", True)]
    assert fed.shares == {"steady": 0.05, "cheap": 0.95}
    assert fed.answers("steady", 20, good=False) == []
    assert actions(fed.answers("steady", 2 * ENOUGH)) == [("promote", "steady", True)] * 2  # restored again
    assert chained(fed.decisions)


def test_the_heaviest_variant_can_be_decreased() -> None:
    fed = DeciderFeed(spec({"steady": 9, "cheap": 1}, step=0.5, cooldown_answers=2))
    assert actions(fed.answers("steady", ENOUGH, good=False)) == [("shift", "steady", True)]
    assert actions(fed.answers("cheap", 10)) == [("roll back", "steady", True)]
    assert fed.shares == {"steady": 0.05, "cheap": 0.95}


def test_a_lost_share_goes_to_no_variant_in_trouble() -> None:
    fed = DeciderFeed(spec({"a": 2, "b": 1, "c": 1}))
    fed.answers("a", ENOUGH, good=False)
    assert fed.shares == {"a": 0.05, "b": 0.475, "c": 0.475}
    assert actions(fed.answers("b", ENOUGH, good=False)) == [("roll back", "b", True)]
    assert fed.shares == {"a": 0.05, "b": 0.05, "c": 0.9}
    assert actions(fed.answers("c", ENOUGH, good=False)) == [("hold", "c", False)]
    assert fed.answers("c", 20, good=False) == []
    # as soon as one variant has recovered, it can take share
    assert actions(fed.answers("a", ENOUGH + 2)) == [("promote", "a", True), ("roll back", "c", True)]
    assert fed.shares["b"] == 0.05
    assert chained(fed.decisions)


def test_a_single_variant_gets_one_hold_and_one_recovery_decision() -> None:
    fed = DeciderFeed(spec({"only": 1, "spare": 0}))
    (hold,) = fed.answers("only", 30, good=False)
    assert (hold.action, hold.acted) == ("hold", False)
    assert "there is no other variant" in hold.reason
    (over,) = fed.answers("only", 30)
    assert (over.action, over.acted) == ("promote", False)
    assert "its share is what was set, 100 %" in over.reason
    assert len(fed.answers("only", 30, good=False)) == 1
    assert fed.version == 1


def test_a_variant_at_its_minimum_share_is_not_decreased() -> None:
    fed = DeciderFeed(spec({"steady": 95, "cheap": 5}))
    (hold,) = fed.answers("cheap", 30, good=False)
    assert (hold.action, hold.acted, hold.before) == ("hold", False, hold.after)
    assert "it has the least share already" in hold.reason


def test_a_variant_of_weight_zero_stays_at_zero() -> None:
    fed = DeciderFeed(spec({"steady": 1, "cheap": 1, "spare": 0}))
    assert fed.answers("spare", 50, good=False) == []
    fed.answers("cheap", ENOUGH, good=False)
    assert fed.shares == {"steady": 0.95, "cheap": 0.05, "spare": 0.0}


def test_a_slow_variant_is_decreased_for_its_latency() -> None:
    fed = DeciderFeed(spec(max_latency=2.0))
    made = fed.see(*(score_of(f"r{n}", "cheap", values={"raw_ms": 2_001.0}) for n in range(ENOUGH)))
    assert actions(made) == [("roll back", "cheap", True)]
    assert made[0].reason.startswith("cheap is too slow: ")
    assert "took longer than 2 s, where 5 % may" in made[0].reason
    (back, *_) = fed.see(*(score_of(f"s{n}", "cheap", values={"raw_ms": 100.0}) for n in range(ENOUGH)))
    assert "took longer than 2 s, where up to 10 % counts as recovered" in back.reason


def test_a_run_counts_once_even_if_its_score_is_repeated() -> None:
    fed = DeciderFeed(spec())
    assert fed.see(*[score_of("the same", "cheap", good=False)] * 100) == []
    assert fed.decider.answers_counted == 1
    assert len(fed.answers("cheap", ENOUGH - 1, good=False)) == 1


def test_the_number_of_remembered_runs_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seen_runs, "MAX_REMEMBERED_RUNS", 3)
    seen = seen_runs.SeenRuns()
    assert [seen.add(run) for run in ("a", "b", "c", "a", "d", "b", "a")] == [True] * 3 + [False, True, False, True]
    again = seen_runs.SeenRuns.from_base64(seen.to_base64())
    assert (len(again), again.to_base64()) == (3, seen.to_base64())


@pytest.mark.parametrize(
    "given",
    [
        {"values": {"latency_ms.total": 12.0}},  # the variant was not asked: neither good nor bad
        {"values": {"quality": math.nan}},
        {"values": {"raw_ms": math.nan, "raw_cost": math.inf}},
        {"at": math.nan},
        {"at": math.inf},
        {"feedback": "f1"},
        {"policy": "another"},
        {"variant": "gone"},
        {"variant": "none"},
        {"probability": 0.0},
        {"probability": 1.5},
    ],
)
def test_scores_without_a_drawn_variant_are_skipped(given: dict[str, object]) -> None:
    fed = DeciderFeed(spec(max_latency=1.0, max_cost=1.0))
    made = fed.see(
        *(score_of(f"r{n}", **{"variant": "cheap", "good": False} | given) for n in range(2 * ENOUGH))  # type: ignore[arg-type]
    )
    assert (made, fed.decider.answers_counted) == ([], 0)
    assert fed.decider.snapshot()["scores"] == 2 * ENOUGH


def test_values_that_are_not_numbers_leave_a_readable_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(incident_response, "Detectors", Detectors)
    fed = DeciderFeed(spec())
    for number, wrong in enumerate((math.nan, math.inf, -math.inf, 1e308)):
        fed.see(score_of(f"r{number}", "cheap", values={"quality": wrong, "raw_fault": 0.0, "latency_ms.total": wrong}))
        fed.see(score_of(f"s{number}", "cheap", values={"quality": 0.5, "raw_fault": wrong, "latency_ms.total": wrong}))
    json.dumps(fed.decider.snapshot(), allow_nan=False)


def test_a_fault_counts_as_the_worst_answer_and_the_score_is_configurable() -> None:
    fed = DeciderFeed(spec(score="relevance"))
    fault = [score_of(f"r{n}", "cheap", values={"raw_fault": 1.0}) for n in range(ENOUGH - 1)]
    low = score_of("low", "cheap", values={"raw_fault": 0.0, "relevance": 0.1, "quality": 1.0})
    assert actions(fed.see(*fault, low)) == [("roll back", "cheap", True)]


def test_an_answer_of_an_earlier_version_of_the_policy_counts() -> None:
    fed = DeciderFeed(spec())
    fed.ask("set", spec=spec(cooldown_answers=2))
    made = fed.see(*(score_of(f"r{n}", "cheap", good=False, policy_version=1) for n in range(ENOUGH)))
    assert actions(made) == [("roll back", "cheap", True)]


def test_nothing_is_counted_before_a_policy_is_set() -> None:
    fed = DeciderFeed()
    assert fed.answers("cheap", 50, good=False) == []
    assert fed.decider.policy is None
    assert fed.ask("set", spec=spec()).next_score_offset == 50


def test_a_dry_run_announces_each_decision_once_and_changes_no_weights() -> None:
    fed = DeciderFeed(spec(dry_run=True, step=0.25))
    (shift,) = fed.answers("cheap", 50, good=False)
    assert (shift.action, shift.acted, shift.version) == ("shift", False, 1)
    assert (shift.before, shift.after) == ({"steady": 0.5, "cheap": 0.5}, {"steady": 0.75, "cheap": 0.25})
    assert shift.reason.endswith("its share goes from 50 % to 25 %, were this no dry run")
    assert fed.shares == {"steady": 0.5, "cheap": 0.5}
    (over,) = fed.answers("cheap", 50)
    assert (over.action, over.acted) == ("promote", False)
    assert len(fed.answers("cheap", 50, good=False)) == 1


def test_findings_of_a_dry_run_take_effect_when_it_ends() -> None:
    fed = DeciderFeed(spec(dry_run=True))
    fed.answers("cheap", 20, good=False)
    fed.ask("set", spec=spec())
    assert actions(fed.answers("steady", 20)) == [("roll back", "cheap", True)]


def test_switching_to_a_dry_run_stops_a_decrease() -> None:
    fed = DeciderFeed(spec(step=0.2))
    fed.answers("cheap", ENOUGH, good=False)
    fed.ask("set", spec=spec(step=0.2, dry_run=True))
    assert actions(fed.answers("steady", 20)) == [("shift", "cheap", False)]
    assert actions(fed.answers("cheap", 50)) == [("promote", "cheap", False)]
    assert fed.shares["cheap"] == 0.3
    fed.ask("set", spec=spec(step=0.2))
    assert actions(fed.answers("cheap", 1)) == [("promote", "cheap", True)]
