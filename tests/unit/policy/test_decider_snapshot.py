"""The snapshots of a decider: their size and their formats."""

import json
import random
from typing import Any

import pytest
from counting_detectors import ENOUGH
from decider_kit import POLICY, DeciderFeed, actions, chained, operator_command, score_of, spec

from poise.contracts.policy import PolicyState
from poise.contracts.topics import POLICY as POLICY_TOPIC
from poise.contracts.topics import POLICY_STATE
from poise.policy import incident_response, seen_runs
from poise.policy.command_execution import MAX_COMMANDS
from poise.policy.decider import Decider, NewerSnapshotError
from poise.policy.detection import Detectors
from poise.policy.seen_runs import SeenRuns
from poise.policy.weights import MAX_VARIANTS

pytestmark = pytest.mark.usefixtures("_plain")


def test_a_snapshot_survives_encoding_and_stays_small() -> None:
    fed = DeciderFeed(spec())
    fed.answers("cheap", 3 * ENOUGH, good=False)
    state = PolicyState(name=POLICY, next_score_offset=1, next_command_offset=1, decider=fed.decider.snapshot())
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
    fed = DeciderFeed()
    for number in range(MAX_COMMANDS):
        command = operator_command("set", number, spec=spec(weights, cooldown_answers=number + 1, **limits))
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
    state = PolicyState(name=POLICY, next_score_offset=1, next_command_offset=1, decider=snapshot)
    assert len(state.encode()) < 0.9 * POLICY_STATE.max_bytes

    more = fed.ask("set", spec=spec(weights | {"another": 1.0}, **limits))
    assert (more.action, more.acted) == ("refuse", False)
    assert "33 variants" in more.reason
    assert fed.ask("set", spec=spec(weights, score="x" * 10_000)).action == "refuse"


def test_a_snapshot_of_a_newer_worker_is_refused() -> None:
    with pytest.raises(NewerSnapshotError, match="a newer worker wrote this snapshot"):
        Decider.restore({"format": 99})


def test_detector_state_of_another_version_is_reset_and_the_weights_stay() -> None:
    fed = DeciderFeed(spec(step=0.25))
    fed.answers("cheap", ENOUGH + 1, good=False)
    kept = json.loads(json.dumps(fed.decider.snapshot()))
    kept["detectors"] = {"format": 1, "what": "it was then"}
    fed.decider = Decider.restore(kept)
    assert fed.shares == {"steady": 0.95, "cheap": 0.05}
    assert fed.answers("cheap", ENOUGH) == []  # its incident is forgotten
    assert actions(fed.answers("cheap", ENOUGH, good=False)) == [("hold", "cheap", False)]
    assert chained(fed.decisions)
