"""The policy in force over a worker's variants."""

import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policy_records_kit import policy_of, policy_record
from pydantic import ValidationError

from poise.contracts import Draw
from poise.kafka.record import Record
from poise_services.orchestration.active_policy import PolicyFollower, apply_weights
from poise_services.orchestration.settings import OrchestrationSettings

NAMES = ("a", "b", "c")
shares = st.dictionaries(st.sampled_from([*NAMES, "x", "y"]), st.floats(0, 1), min_size=1)


def settings_with_variants(*names: str, **options: Any) -> OrchestrationSettings:
    """Return settings of variants: the first is drawn, the others stand by."""
    variants = [{"name": name, "weight": float(not place)} for place, name in enumerate(names)]
    return OrchestrationSettings(variants=variants, **options)


def weights(policy_follower: PolicyFollower) -> dict[str, float]:
    return {one.name: one.weight for one in policy_follower.current.weighted_settings.variants}


def test_weights_of_the_settings_are_version_0_until_a_policy_is_set() -> None:
    policy_follower = PolicyFollower(settings_with_variants(*NAMES))
    assert (policy_follower.current.version, weights(policy_follower)) == (0, {"a": 1.0, "b": 0.0, "c": 0.0})
    drawn = policy_follower.current.draw("run")
    assert (drawn.variant, drawn.probability, drawn.policy, drawn.policy_version) == ("a", 1.0, "answer", 0)


def test_a_policy_replaces_only_the_weights() -> None:
    settings = settings_with_variants("a", "b")
    policy_follower = PolicyFollower(settings)
    policy_follower.apply(policy_record(policy_of(3, a=0.25, b=0.75)))
    now = policy_follower.current
    assert (now.version, weights(policy_follower)) == (3, {"a": 0.25, "b": 0.75})
    assert now.weighted_settings.model_copy(update={"variants": settings.variants}) == settings
    drawn = [now.draw(f"run {number}") for number in range(2_000)]
    assert {(one.variant, one.probability) for one in drawn} == {("a", 0.25), ("b", 0.75)}
    assert {one.policy_version for one in drawn} == {3}
    assert 400 < sum(one.variant == "a" for one in drawn) < 600


def test_a_policy_of_another_name_is_ignored() -> None:
    policy_follower = PolicyFollower(settings_with_variants("a", "b"))
    policy_follower.apply(policy_record(policy_of(3, "other", b=1.0)))
    assert policy_follower.current.version == 0
    named = PolicyFollower(settings_with_variants("a", "b", policy="other"))
    named.apply(policy_record(policy_of(3, "other", b=1.0)))
    assert (named.current.version, named.current.draw("run").policy, named.current.draw("run").variant) == (
        3,
        "other",
        "b",
    )


def test_a_variant_that_the_policy_does_not_name_is_on_standby() -> None:
    policy_follower = PolicyFollower(settings_with_variants("a", "b"))
    policy_follower.apply(policy_record(policy_of(1, b=1.0)))
    assert weights(policy_follower) == {"a": 0.0, "b": 1.0}


def test_the_weight_of_an_unknown_variant_is_shared_in_proportion(
    caplog: pytest.LogCaptureFixture,
) -> None:
    policy_follower = PolicyFollower(settings_with_variants("a", "b"))
    policy_follower.apply(policy_record(policy_of(1, a=0.1, b=0.3, x=0.6)))
    drawn = {
        policy_follower.current.draw(f"run {number}").variant: policy_follower.current.draw(f"run {number}")
        for number in range(100)
    }
    assert {name: one.probability for name, one in drawn.items()} == pytest.approx({"a": 0.25, "b": 0.75})
    (said,) = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert said.startswith("policy answer version 1 draws x, not in [orchestration] variants")


def test_a_policy_of_unknown_variants_leaves_the_settings_weights(caplog: pytest.LogCaptureFixture) -> None:
    policy_follower = PolicyFollower(settings_with_variants("a", "b"))
    policy_follower.apply(policy_record(policy_of(1, b=1.0)))
    policy_follower.apply(policy_record(policy_of(2, a=0.0, x=1.0)))
    assert (policy_follower.current.version, weights(policy_follower)) == (0, {"a": 1.0, "b": 0.0})
    assert "version 2 draws only x" in caplog.text
    policy_follower.apply(policy_record(policy_of(1, b=1.0)))
    assert policy_follower.current.version == 0, "a version that is over does not come back"


@pytest.mark.parametrize("late", [2, 3])
def test_a_version_not_above_the_one_in_force_is_ignored(late: int) -> None:
    policy_follower = PolicyFollower(settings_with_variants("a", "b"))
    policy_follower.apply(policy_record(policy_of(3, b=1.0)))
    policy_follower.apply(policy_record(policy_of(late, a=1.0)))
    assert (policy_follower.current.version, weights(policy_follower)) == (3, {"a": 0.0, "b": 1.0})


async def test_a_recreated_log_starts_at_version_1_and_the_policy_stays_until_it_is_read() -> None:
    policy_follower = PolicyFollower(settings_with_variants("a", "b"))
    policy_follower.apply(policy_record(policy_of(3, b=1.0)))
    policy_follower.on_opening_end()
    before = policy_follower.reached_opening_end
    await policy_follower.reset()
    assert (before, policy_follower.reached_opening_end) == (True, False)
    assert (policy_follower.current.version, weights(policy_follower)) == (3, {"a": 0.0, "b": 1.0})
    policy_follower.apply(policy_record(policy_of(1, a=0.5, b=0.5)))
    policy_follower.on_opening_end()
    assert (policy_follower.current.version, weights(policy_follower)) == (1, {"a": 0.5, "b": 0.5})


async def test_a_recreated_log_without_a_policy_restores_the_settings_weights(
    caplog: pytest.LogCaptureFixture,
) -> None:
    policy_follower = PolicyFollower(settings_with_variants("a", "b"))
    policy_follower.on_opening_end()
    policy_follower.apply(policy_record(policy_of(3, b=1.0)))
    await policy_follower.reset()
    policy_follower.on_opening_end()
    assert (policy_follower.current.version, weights(policy_follower)) == (0, {"a": 1.0, "b": 0.0})
    assert "poise.policy no longer has a policy answer: the settings' weights are in force" in caplog.text


@pytest.mark.parametrize("value", [b"", b"{}", b"no json", None, policy_of(4, a=1.0).encode().replace(b"4", b'"?"')])
def test_an_unreadable_record_leaves_the_policy_in_force(value: bytes | None) -> None:
    policy_follower = PolicyFollower(settings_with_variants("a", "b"))
    policy_follower.apply(policy_record(policy_of(1, b=1.0)))
    with pytest.raises(ValidationError):
        policy_follower.apply(Record("poise.policy", 0, 7, 1.0, b"answer", value))
    assert policy_follower.current.version == 1
    policy_follower.apply(policy_record(policy_of(2, a=0.5, b=0.5)))
    assert policy_follower.current.version == 2


@given(shares, st.text(max_size=8))
def test_a_variant_of_the_worker_is_drawn_with_the_recorded_probability(
    given_weights: dict[str, float], run: str
) -> None:
    now = apply_weights(settings_with_variants(*NAMES), policy_of(7, "answer", **given_weights), b"secret")
    here = {name: weight for name, weight in given_weights.items() if name in NAMES and weight > 0}
    drawn = now.draw(run)
    assert now.version == (7 if here else 0)
    assert drawn.probability == pytest.approx(here[drawn.variant] / sum(here.values()) if here else 1.0)


def test_a_draw_of_a_removed_variant_is_repeated() -> None:
    now = PolicyFollower(settings_with_variants("a", "b")).current
    kept = Draw(variant="b", probability=0.1, policy="answer", policy_version=6)
    assert now.resolve(kept, "run") == (kept, now.weighted_settings.variants[1])
    gone = kept.model_copy(update={"variant": "x"})
    assert now.resolve(gone, "run") == (now.draw("run"), now.weighted_settings.variants[0])
