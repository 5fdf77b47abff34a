"""The versions of a policy, and the one that a revert restores."""

from poise.contracts.policy import PolicySpec
from poise.policy.policy_versions import PolicyVersions

EVEN = {"steady": 0.5, "cheap": 0.5}
MOVED = {"steady": 0.95, "cheap": 0.05}


def versions(*, moved: bool) -> PolicyVersions:
    """Return a policy that was set and, if it moved, rolled back and held."""
    made = PolicyVersions("answer")
    made.decide("set", 0.0, "", spec=PolicySpec(name="answer", weights=EVEN), after=dict(EVEN))
    if moved:
        made.decide("roll back", 0.0, "", after=dict(MOVED))
        made.decide("hold", 0.0, "", held=True)
    return made


def reverted_weights(made: PolicyVersions, version: int | None) -> dict[str, float] | None:
    found = made.reverted_version(version)
    return None if found is None else found.weights


def test_a_revert_without_a_version_restores_the_weights_before_the_last_change() -> None:
    assert reverted_weights(versions(moved=True), None) == EVEN


def test_a_revert_to_a_version_restores_its_weights() -> None:
    assert reverted_weights(versions(moved=True), 2) == MOVED
    assert reverted_weights(versions(moved=True), 7) is None


def test_before_the_first_change_there_is_nothing_to_restore() -> None:
    assert reverted_weights(versions(moved=False), None) is None
    assert reverted_weights(PolicyVersions("answer"), None) is None
