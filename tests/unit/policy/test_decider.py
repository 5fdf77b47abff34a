"""The decider: its response to a variant with an incident, and commands."""

import json
import math
import random
from typing import Any

import pytest
from counting_detectors import ENOUGH
from decider_kit import POLICY, Fed, actions, asked, chained, score_of, spec

from poise.contracts.policy import PolicySpec, PolicyState
from poise.contracts.topics import POLICY as POLICY_TOPIC
from poise.contracts.topics import POLICY_STATE
from poise.policy import incident_response, policy_versions, seen_runs
from poise.policy.command_execution import MAX_COMMANDS
from poise.policy.decider import Decider
from poise.policy.detection import Detectors
from poise.policy.seen_runs import SeenRuns
from poise.policy.weights import MAX_VARIANTS

pytestmark = pytest.mark.usefixtures("_plain")


# -- moving ----------------------------------------------------------------------------------------------------------


def test_a_variant_in_trouble_loses_its_share_in_steps_and_regains_it() -> None:
    fed = Fed(spec(step=0.25, cooldown_answers=3))
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
    fed = Fed(spec(step=0.25))
    (shift,) = fed.answers("cheap", ENOUGH, good=False)
    assert shift.reason == (
        "cheap answers worse than the others: quality 0.00 (0.00–0.00) in 5 answers; its share goes from 50 % to 25 %"
    )
    assert shift.finding is not None
    assert shift.finding.runs == (f"run-{fed.offset - 1}",)
    assert (shift.by, shift.at, shift.scores) == ("loop", fed.offset - 1.0, fed.offset)
    (further,) = fed.answers("steady", 1)
    assert further.reason.startswith("cheap has not recovered (it was: cheap answers worse")
    (back,) = fed.answers("cheap", ENOUGH)
    assert back.reason == (
        "cheap has recovered: quality 1.00 (1.00–1.00) in 5 answers; its share goes from 5 % to 30 %"
    )


def test_a_variant_that_recovers_during_the_decrease_is_restored() -> None:
    fed = Fed(spec(step=0.2, cooldown_answers=8))
    fed.answers("cheap", ENOUGH, good=False)
    assert fed.shares["cheap"] == 0.3
    assert actions(fed.answers("cheap", 8)) == [("promote", "cheap", True)]
    assert fed.shares == {"steady": 0.5, "cheap": 0.5}


def test_a_variant_that_relapses_during_the_restore_is_decreased_again() -> None:
    fed = Fed(spec({"steady": 9, "cheap": 1}, step=0.5))
    fed.answers("steady", ENOUGH, good=False)
    fed.answers("cheap", 1)
    assert fed.shares["steady"] == 0.05
    fed.answers("steady", ENOUGH)
    assert fed.shares["steady"] == 0.55
    assert actions(fed.answers("steady", ENOUGH, good=False)) == [("roll back", "steady", True)]
    assert fed.shares == {"steady": 0.05, "cheap": 0.95}
    assert fed.answers("steady", 20, good=False) == []
    assert actions(fed.answers("steady", 2 * ENOUGH)) == [("promote", "steady", True)] * 2  # and back once more
    assert chained(fed.decisions)


def test_the_heaviest_variant_can_be_decreased() -> None:
    fed = Fed(spec({"steady": 9, "cheap": 1}, step=0.5, cooldown_answers=2))
    assert actions(fed.answers("steady", ENOUGH, good=False)) == [("shift", "steady", True)]
    assert actions(fed.answers("cheap", 10)) == [("roll back", "steady", True)]
    assert fed.shares == {"steady": 0.05, "cheap": 0.95}


def test_a_lost_share_goes_to_no_variant_in_trouble() -> None:
    fed = Fed(spec({"a": 2, "b": 1, "c": 1}))
    fed.answers("a", ENOUGH, good=False)
    assert fed.shares == {"a": 0.05, "b": 0.475, "c": 0.475}
    assert actions(fed.answers("b", ENOUGH, good=False)) == [("roll back", "b", True)]
    assert fed.shares == {"a": 0.05, "b": 0.05, "c": 0.9}
    assert actions(fed.answers("c", ENOUGH, good=False)) == [("hold", "c", False)]
    assert fed.answers("c", 20, good=False) == []
    # as soon as one has recovered, there is somewhere to go
    assert actions(fed.answers("a", ENOUGH + 2)) == [("promote", "a", True), ("roll back", "c", True)]
    assert fed.shares["b"] == 0.05
    assert chained(fed.decisions)


def test_a_single_variant_gets_one_hold_and_one_recovery_decision() -> None:
    fed = Fed(spec({"only": 1, "spare": 0}))
    (hold,) = fed.answers("only", 30, good=False)
    assert (hold.action, hold.acted) == ("hold", False)
    assert "there is no other variant" in hold.reason
    (over,) = fed.answers("only", 30)
    assert (over.action, over.acted) == ("promote", False)
    assert "its share is what was set, 100 %" in over.reason
    assert len(fed.answers("only", 30, good=False)) == 1
    assert fed.version == 1


def test_a_variant_at_its_minimum_share_is_not_decreased() -> None:
    fed = Fed(spec({"steady": 95, "cheap": 5}))
    (hold,) = fed.answers("cheap", 30, good=False)
    assert (hold.action, hold.acted, hold.before) == ("hold", False, hold.after)
    assert "it has the least share already" in hold.reason


def test_a_variant_of_weight_zero_stays_at_zero() -> None:
    fed = Fed(spec({"steady": 1, "cheap": 1, "spare": 0}))
    assert fed.answers("spare", 50, good=False) == []
    fed.answers("cheap", ENOUGH, good=False)
    assert fed.shares == {"steady": 0.95, "cheap": 0.05, "spare": 0.0}


def test_a_slow_variant_is_decreased_for_its_latency() -> None:
    fed = Fed(spec(max_latency=2.0))
    made = fed.see(*(score_of(f"r{n}", "cheap", values={"raw_ms": 2_001.0}) for n in range(ENOUGH)))
    assert actions(made) == [("roll back", "cheap", True)]
    assert made[0].reason.startswith("cheap is too slow: ")
    assert "took longer than 2 s, where 5 % may" in made[0].reason
    (back, *_) = fed.see(*(score_of(f"s{n}", "cheap", values={"raw_ms": 100.0}) for n in range(ENOUGH)))
    assert "took longer than 2 s, where up to 10 % counts as recovered" in back.reason


# -- what counts -----------------------------------------------------------------------------------------------------


def test_a_run_counts_once_even_if_its_score_is_repeated() -> None:
    fed = Fed(spec())
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
    fed = Fed(spec(max_latency=1.0, max_cost=1.0))
    made = fed.see(
        *(score_of(f"r{n}", **{"variant": "cheap", "good": False} | given) for n in range(2 * ENOUGH))  # type: ignore[arg-type]
    )
    assert (made, fed.decider.answers_counted) == ([], 0)
    assert fed.decider.snapshot()["scores"] == 2 * ENOUGH


def test_values_that_are_not_numbers_leave_a_readable_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(incident_response, "Detectors", Detectors)
    fed = Fed(spec())
    for number, wrong in enumerate((math.nan, math.inf, -math.inf, 1e308)):
        fed.see(score_of(f"r{number}", "cheap", values={"quality": wrong, "raw_fault": 0.0, "latency_ms.total": wrong}))
        fed.see(score_of(f"s{number}", "cheap", values={"quality": 0.5, "raw_fault": wrong, "latency_ms.total": wrong}))
    json.dumps(fed.decider.snapshot(), allow_nan=False)


def test_a_fault_counts_as_the_worst_answer_and_the_score_is_configurable() -> None:
    fed = Fed(spec(score="relevance"))
    fault = [score_of(f"r{n}", "cheap", values={"raw_fault": 1.0}) for n in range(ENOUGH - 1)]
    low = score_of("low", "cheap", values={"raw_fault": 0.0, "relevance": 0.1, "quality": 1.0})
    assert actions(fed.see(*fault, low)) == [("roll back", "cheap", True)]


def test_an_answer_of_an_earlier_version_of_the_policy_counts() -> None:
    fed = Fed(spec())
    fed.ask("set", spec=spec(cooldown_answers=2))
    made = fed.see(*(score_of(f"r{n}", "cheap", good=False, policy_version=1) for n in range(ENOUGH)))
    assert actions(made) == [("roll back", "cheap", True)]


def test_nothing_is_counted_before_a_policy_is_set() -> None:
    fed = Fed()
    assert fed.answers("cheap", 50, good=False) == []
    assert fed.decider.policy is None
    assert fed.ask("set", spec=spec()).scores == 50


# -- people ----------------------------------------------------------------------------------------------------------


def test_a_held_policy_stays_until_it_is_released() -> None:
    fed = Fed(spec(step=0.2))
    fed.answers("cheap", ENOUGH, good=False)
    held = fed.ask("hold", reason="the fair is on")
    assert (held.action, held.acted, held.version) == ("hold", True, 3)
    assert held.reason == "jane holds the weights at steady 70 %, cheap 30 %: the fair is on"
    assert fed.answers("cheap", 50, good=False) == []
    assert actions(fed.answers("steady", ENOUGH, good=False)) == [("hold", "steady", False)]  # announced
    assert fed.answers("steady", 50, good=False) == []
    assert fed.answers("cheap", ENOUGH) == []  # it has recovered, and stays
    fed.ask("release")
    assert actions(fed.answers("cheap", 1)) == [("promote", "cheap", True)]
    assert actions(fed.answers("cheap", 1)) == [("shift", "steady", True)]
    assert chained(fed.decisions)


def test_holding_a_held_policy_changes_nothing() -> None:
    fed = Fed(spec())
    assert not fed.ask("release").acted
    assert fed.ask("hold").acted
    again = fed.ask("hold")
    assert (again.acted, again.reason) == (
        False,
        "jane holds the weights at steady 50 %, cheap 50 %; they are held already",
    )
    assert fed.version == 2


def test_setting_weights_ends_all_incidents() -> None:
    fed = Fed(spec())
    fed.answers("cheap", ENOUGH, good=False)
    fed.ask("set", spec=spec({"steady": 2, "cheap": 3}))
    assert fed.shares == {"steady": 0.4, "cheap": 0.6}
    assert fed.answers("cheap", ENOUGH - 1, good=False) == []
    assert actions(fed.answers("cheap", 1, good=False)) == [("shift", "cheap", True)]


def test_setting_the_active_policy_changes_nothing() -> None:
    fed = Fed(spec())
    fed.answers("cheap", ENOUGH, good=False)
    before, same = fed.shares, fed.ask("set", spec=spec())
    assert (same.acted, same.version, fed.shares) == (False, 2, before)


def test_setting_the_step_limits_keeps_the_findings() -> None:
    fed = Fed(spec(step=0.2, cooldown_answers=50))
    fed.answers("cheap", ENOUGH, good=False)
    assert fed.ask("set", spec=spec(step=0.4, cooldown_answers=1)).acted
    assert fed.shares == {"steady": 0.7, "cheap": 0.3}
    assert actions(fed.answers("steady", 50)) == [("roll back", "cheap", True)]


@pytest.mark.parametrize(
    "other",
    [
        spec({"steady": 1, "cheap": 1, "new": 1}),
        spec({"steady": 1, "cheap": 1}, mean_answers_between_false_alarms=1_000),
    ],
)
def test_other_variants_or_detection_limits_restart_detection(other: PolicySpec) -> None:
    fed = Fed(spec())
    fed.answers("cheap", ENOUGH, good=False)
    fed.answers("steady", ENOUGH - 1, good=False)
    fed.ask("set", spec=other)
    assert fed.shares["cheap"] == fed.shares["steady"]
    assert fed.answers("steady", 1, good=False) == []


def test_revert_restores_the_weights_before_the_last_change() -> None:
    fed = Fed(spec())
    fed.answers("cheap", ENOUGH, good=False)
    fed.ask("hold")
    moved = fed.shares
    back = fed.ask("revert")
    assert back.reason == "jane goes back to version 1, steady 50 %, cheap 50 %"
    assert (back.acted, back.version, fed.shares) == (True, 4, {"steady": 0.5, "cheap": 0.5})
    policy = fed.decider.policy
    assert policy is not None
    assert policy.held  # to revert releases nothing
    fed.ask("revert")
    assert fed.shares == moved
    assert chained(fed.decisions)


def test_revert_to_a_version_restores_its_specification() -> None:
    fed = Fed(spec({"old": 1}))
    fed.ask("set", spec=spec())
    fed.ask("set", spec=spec(mean_answers_between_false_alarms=100))
    fed.ask("revert", version=1)
    assert (fed.shares, fed.version) == ({"old": 1.0}, 4)
    assert fed.answers("cheap", 20, good=False) == []
    assert not fed.ask("revert", version=1).acted
    assert fed.ask("revert", version=2).after == {"steady": 0.5, "cheap": 0.5}


def test_fifty_versions_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy_versions, "MAX_VERSIONS", 3)
    fed = Fed(spec())
    for _ in range(2):
        fed.ask("hold")
        fed.ask("release")
    refused = fed.ask("revert", version=2)
    assert (refused.action, refused.acted, refused.version) == ("refuse", False, 5)
    assert refused.reason == "jane asked to revert it, which cannot be done: there is no version 2: 3 to 5 are kept"
    assert fed.ask("revert").action == "refuse"


def test_a_command_is_executed_once() -> None:
    fed = Fed(spec())
    command = asked("hold", 7)
    assert len(fed.decider.apply_command(command, 1.0)) == 1
    assert fed.decider.apply_command(command, 2.0) == []


@pytest.mark.parametrize("action", ["hold", "release", "revert", "set"])
def test_an_impossible_command_is_refused_with_the_reason(action: str) -> None:
    fed = Fed()
    refused = fed.ask(action)
    assert (refused.action, refused.acted, refused.version, refused.after) == ("refuse", False, 0, {})
    assert refused.command == "c1"
    assert ("nothing was set yet" in refused.reason) == (action != "set")


def test_an_invalid_variant_name_is_refused() -> None:
    assert Fed().ask("set", spec=spec({"a\nb": 1})).action == "refuse"


def test_invalid_weights_are_refused_and_the_active_policy_stays() -> None:
    fed = Fed(spec())
    refused = fed.ask("set", spec=spec({"a": 0.0}))
    assert refused.reason == "jane asked to set it, which cannot be done: no variant has a weight above zero"
    assert fed.ask("set", spec=PolicySpec(name="another", weights={"a": 1})).action == "refuse"
    assert fed.version == 1


# -- dry run ---------------------------------------------------------------------------------------------------------


def test_a_dry_run_announces_each_decision_once_and_changes_no_weights() -> None:
    fed = Fed(spec(dry_run=True, step=0.25))
    (shift,) = fed.answers("cheap", 50, good=False)
    assert (shift.action, shift.acted, shift.version) == ("shift", False, 1)
    assert (shift.before, shift.after) == ({"steady": 0.5, "cheap": 0.5}, {"steady": 0.75, "cheap": 0.25})
    assert shift.reason.endswith("its share goes from 50 % to 25 %, were this no dry run")
    assert fed.shares == {"steady": 0.5, "cheap": 0.5}
    (over,) = fed.answers("cheap", 50)
    assert (over.action, over.acted) == ("promote", False)
    assert len(fed.answers("cheap", 50, good=False)) == 1


def test_findings_of_a_dry_run_take_effect_when_it_ends() -> None:
    fed = Fed(spec(dry_run=True))
    fed.answers("cheap", 20, good=False)
    fed.ask("set", spec=spec())
    assert actions(fed.answers("steady", 20)) == [("roll back", "cheap", True)]


def test_switching_to_a_dry_run_stops_a_decrease() -> None:
    fed = Fed(spec(step=0.2))
    fed.answers("cheap", ENOUGH, good=False)
    fed.ask("set", spec=spec(step=0.2, dry_run=True))
    assert actions(fed.answers("steady", 20)) == [("shift", "cheap", False)]
    assert actions(fed.answers("cheap", 50)) == [("promote", "cheap", False)]
    assert fed.shares["cheap"] == 0.3
    fed.ask("set", spec=spec(step=0.2))
    assert actions(fed.answers("cheap", 1)) == [("promote", "cheap", True)]


# -- remembering -----------------------------------------------------------------------------------------------------


def test_a_snapshot_survives_encoding_and_stays_small() -> None:
    fed = Fed(spec())
    fed.answers("cheap", 3 * ENOUGH, good=False)
    state = PolicyState(name=POLICY, scores=1, commands=1, decider=fed.decider.snapshot())
    again = Decider.restore(PolicyState.parse(state.encode()).decider)
    assert json.dumps(again.snapshot()) == json.dumps(fed.decider.snapshot())


def test_the_largest_snapshot_fits_a_record_and_a_larger_policy_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(incident_response, "Detectors", Detectors)
    names = [f"v{number}".ljust(80, "x") for number in range(MAX_VARIANTS)]
    weights = {name: 1 / (number + 1.37) for number, name in enumerate(names)}
    limits: dict[str, Any] = {
        "min_share": 0.01,
        "min_score": 0.5,
        "max_latency": 1.0,
        "max_cost": 1.0,
        "mean_answers_between_false_alarms": 10**9,
    }
    fed = Fed()
    for number in range(MAX_COMMANDS):
        command = asked("set", number, spec=spec(weights, cooldown_answers=number + 1, **limits))
        assert fed.decider.apply_command(command.model_copy(update={"id": f"{number}".ljust(80, "é")}), at=0.1)[0].acted
    chance = random.Random(1)
    policy = fed.decider.policy
    assert policy is not None
    for number in range(4_000):
        values = {name: chance.random() * 1.02 for name in ("quality", "raw_ms", "raw_cost")}
        values |= {"raw_ms": 1_000 * values["raw_ms"], "latency_ms.total": 1_234.5 * chance.random()}
        question, run, at = f"{chance.getrandbits(64):016x}", f"{number}".ljust(2_000, "r"), 1.7e9 + number / 7
        name = chance.choice(names)
        drawn: dict[str, Any] = {"policy_version": policy.version, "probability": policy.weights[name]}
        fed.see(score_of(run, name, at=at, question=question, values=values, **drawn))
    assert len(policy.encode()) < POLICY_TOPIC.max_bytes
    snapshot = fed.decider.snapshot() | {
        "seen": SeenRuns(range(2**64 - seen_runs.MAX_REMEMBERED_RUNS, 2**64)).to_base64()
    }
    state = PolicyState(name=POLICY, scores=1, commands=1, decider=snapshot)
    assert len(state.encode()) < 0.9 * POLICY_STATE.max_bytes

    more = fed.ask("set", spec=spec(weights | {"another": 1.0}, **limits))
    assert (more.action, more.acted) == ("refuse", False)
    assert "33 variants" in more.reason
    assert fed.ask("set", spec=spec(weights, score="x" * 10_000)).action == "refuse"


def test_a_snapshot_of_a_newer_worker_is_refused() -> None:
    with pytest.raises(ValueError, match="a newer worker wrote this snapshot"):
        Decider.restore({"format": 99})


def test_detector_state_of_another_version_is_reset_and_the_weights_stay() -> None:
    fed = Fed(spec(step=0.25))
    fed.answers("cheap", ENOUGH + 1, good=False)
    kept = json.loads(json.dumps(fed.decider.snapshot()))
    kept["detectors"] = {"format": 1, "what": "it was then"}
    fed.decider = Decider.restore(kept)
    assert fed.shares == {"steady": 0.95, "cheap": 0.05}
    assert fed.answers("cheap", ENOUGH) == []  # its incident is forgotten
    assert actions(fed.answers("cheap", ENOUGH, good=False)) == [("hold", "cheap", False)]
    assert chained(fed.decisions)
