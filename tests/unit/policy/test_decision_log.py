"""The log of a policy's decisions: the weights that a revert restores."""

from collections.abc import Mapping

from poise.contracts.policy import Action, Decision
from poise.policy.decision_log import reverted_weights

EVEN = {"steady": 0.5, "cheap": 0.5}
MOVED = {"steady": 0.95, "cheap": 0.05}


def decision(version: int, action: Action, before: Mapping[str, float], after: Mapping[str, float]) -> Decision:
    return Decision(
        id=f"answer-{version}", policy="answer", action=action, acted=True, reason="", before=dict(before),
        after=dict(after), version=version, by="jane", at=0.0, scores=0,
    )  # fmt: skip


SET = decision(1, "set", {}, EVEN)
ROLLED_BACK = decision(2, "roll back", EVEN, MOVED)
HELD = decision(3, "hold", MOVED, MOVED)


def test_a_revert_without_a_version_restores_the_weights_before_the_last_change() -> None:
    assert reverted_weights([SET, ROLLED_BACK, HELD], None) == EVEN


def test_a_revert_to_a_version_restores_its_weights() -> None:
    assert reverted_weights([SET, ROLLED_BACK, HELD], 2) == MOVED
    assert reverted_weights([SET, ROLLED_BACK], 7) is None


def test_before_the_first_change_there_is_nothing_to_restore() -> None:
    assert reverted_weights([SET], None) is None
    assert reverted_weights([], None) is None
