"""The decider executes commands: hold, release, set and revert."""

import pytest
from counting_detectors import ENOUGH
from decider_kit import DeciderFeed, actions, chained, operator_command, spec

from poise.contracts.policy import PolicySpec
from poise.policy import policy_versions

pytestmark = pytest.mark.usefixtures("_plain")


def test_a_held_policy_stays_until_it_is_released() -> None:
    fed = DeciderFeed(spec(step=0.2))
    fed.answers("cheap", ENOUGH, good=False)
    held = fed.ask("hold", reason="the fair is on")
    assert (held.action, held.acted, held.version) == ("hold", True, 3)
    assert held.reason == "jane holds the weights at steady 70 %, cheap 30 %: the fair is on"
    assert fed.answers("cheap", 50, good=False) == []
    assert actions(fed.answers("steady", ENOUGH, good=False)) == [("hold", "steady", False)]  # announced
    assert fed.answers("steady", 50, good=False) == []
    assert fed.answers("cheap", ENOUGH) == []  # it has recovered, but its share stays
    fed.ask("release")
    assert actions(fed.answers("cheap", 1)) == [("promote", "cheap", True)]
    assert actions(fed.answers("cheap", 1)) == [("shift", "steady", True)]
    assert chained(fed.decisions)


def test_holding_a_held_policy_changes_nothing() -> None:
    fed = DeciderFeed(spec())
    assert not fed.ask("release").acted
    assert fed.ask("hold").acted
    again = fed.ask("hold")
    assert (again.acted, again.reason) == (
        False,
        "jane holds the weights at steady 50 %, cheap 50 %; they are held already",
    )
    assert fed.version == 2


def test_setting_weights_ends_all_incidents() -> None:
    fed = DeciderFeed(spec())
    fed.answers("cheap", ENOUGH, good=False)
    fed.ask("set", spec=spec({"steady": 2, "cheap": 3}))
    assert fed.shares == {"steady": 0.4, "cheap": 0.6}
    assert fed.answers("cheap", ENOUGH - 1, good=False) == []
    assert actions(fed.answers("cheap", 1, good=False)) == [("shift", "cheap", True)]


def test_setting_the_active_policy_changes_nothing() -> None:
    fed = DeciderFeed(spec())
    fed.answers("cheap", ENOUGH, good=False)
    before, same = fed.shares, fed.ask("set", spec=spec())
    assert (same.acted, same.version, fed.shares) == (False, 2, before)


def test_setting_the_step_limits_keeps_the_findings() -> None:
    fed = DeciderFeed(spec(step=0.2, cooldown_answers=50))
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
    fed = DeciderFeed(spec())
    fed.answers("cheap", ENOUGH, good=False)
    fed.answers("steady", ENOUGH - 1, good=False)
    fed.ask("set", spec=other)
    assert fed.shares["cheap"] == fed.shares["steady"]
    assert fed.answers("steady", 1, good=False) == []


def test_revert_restores_the_weights_before_the_last_change() -> None:
    fed = DeciderFeed(spec())
    fed.answers("cheap", ENOUGH, good=False)
    fed.ask("hold")
    moved = fed.shares
    back = fed.ask("revert")
    assert back.reason == "jane goes back to version 1, steady 50 %, cheap 50 %"
    assert (back.acted, back.version, fed.shares) == (True, 4, {"steady": 0.5, "cheap": 0.5})
    policy = fed.decider.policy
    assert policy is not None
    assert policy.held  # a revert does not release the hold
    fed.ask("revert")
    assert fed.shares == moved
    assert chained(fed.decisions)


def test_revert_to_a_version_restores_its_specification() -> None:
    fed = DeciderFeed(spec({"old": 1}))
    fed.ask("set", spec=spec())
    fed.ask("set", spec=spec(mean_answers_between_false_alarms=100))
    fed.ask("revert", version=1)
    assert (fed.shares, fed.version) == ({"old": 1.0}, 4)
    assert fed.answers("cheap", 20, good=False) == []
    assert not fed.ask("revert", version=1).acted
    assert fed.ask("revert", version=2).after == {"steady": 0.5, "cheap": 0.5}


def test_versions_beyond_the_limit_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy_versions, "MAX_VERSIONS", 3)
    fed = DeciderFeed(spec())
    for _ in range(2):
        fed.ask("hold")
        fed.ask("release")
    refused = fed.ask("revert", version=2)
    assert (refused.action, refused.acted, refused.version) == ("refuse", False, 5)
    assert refused.reason == "jane asked to revert it, which cannot be done: there is no version 2: 3 to 5 are kept"
    assert fed.ask("revert").action == "refuse"


def test_a_command_is_executed_once() -> None:
    fed = DeciderFeed(spec())
    command = operator_command("hold", 7)
    assert len(fed.decider.apply_command(command, 1.0)) == 1
    assert fed.decider.apply_command(command, 2.0) == []


@pytest.mark.parametrize("action", ["hold", "release", "revert", "set"])
def test_an_impossible_command_is_refused_with_the_reason(action: str) -> None:
    fed = DeciderFeed()
    refused = fed.ask(action)
    assert (refused.action, refused.acted, refused.version, refused.after) == ("refuse", False, 0, {})
    assert refused.command == "c1"
    assert ("nothing was set yet" in refused.reason) == (action != "set")


def test_an_invalid_variant_name_is_refused() -> None:
    assert DeciderFeed().ask("set", spec=spec({"a\nb": 1})).action == "refuse"


def test_invalid_weights_are_refused_and_the_active_policy_stays() -> None:
    fed = DeciderFeed(spec())
    refused = fed.ask("set", spec=spec({"a": 0.0}))
    assert refused.reason == "jane asked to set it, which cannot be done: no variant has a weight above zero"
    assert fed.ask("set", spec=PolicySpec(name="another", weights={"a": 1})).action == "refuse"
    assert fed.version == 1
