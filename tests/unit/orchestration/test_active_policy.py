"""What is in force over a worker's variants."""

import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policy_records_kit import policy_of, record_of
from pydantic import ValidationError

from poise.contracts import Draw
from poise.kafka.record import Record
from poise_services.orchestration.active_policy import Policies, apply_weights
from poise_services.orchestration.settings import OrchestrationSettings

NAMES = ("a", "b", "c")
shares = st.dictionaries(st.sampled_from([*NAMES, "x", "y"]), st.floats(0, 1), min_size=1)


def settings_of(*names: str, **options: Any) -> OrchestrationSettings:
    """The first variant is drawn, the others stand by."""
    variants = [{"name": name, "weight": float(not place)} for place, name in enumerate(names)]
    return OrchestrationSettings(variants=variants, **options)


def weights(policies: Policies) -> dict[str, float]:
    return {one.name: one.weight for one in policies.current.settings.variants}


def test_until_one_is_set_the_settings_weights_hold_as_version_0() -> None:
    policies = Policies(settings_of(*NAMES))
    assert (policies.current.version, weights(policies)) == (0, {"a": 1.0, "b": 0.0, "c": 0.0})
    drawn = policies.current.draw("run")
    assert (drawn.variant, drawn.probability, drawn.policy, drawn.policy_version) == ("a", 1.0, "answer", 0)


def test_the_weights_of_the_policy_are_in_force_and_all_else_is_as_it_was() -> None:
    settings = settings_of("a", "b")
    policies = Policies(settings)
    policies.apply(record_of(policy_of(3, a=0.25, b=0.75)))
    now = policies.current
    assert (now.version, weights(policies)) == (3, {"a": 0.25, "b": 0.75})
    assert now.settings.model_copy(update={"variants": settings.variants}) == settings
    drawn = [now.draw(f"run {number}") for number in range(2_000)]
    assert {(one.variant, one.probability) for one in drawn} == {("a", 0.25), ("b", 0.75)}
    assert {one.policy_version for one in drawn} == {3}
    assert 400 < sum(one.variant == "a" for one in drawn) < 600


def test_a_policy_of_another_name_is_another_one() -> None:
    policies = Policies(settings_of("a", "b"))
    policies.apply(record_of(policy_of(3, "other", b=1.0)))
    assert policies.current.version == 0
    named = Policies(settings_of("a", "b", policy="other"))
    named.apply(record_of(policy_of(3, "other", b=1.0)))
    assert (named.current.version, named.current.draw("run").policy, named.current.draw("run").variant) == (
        3,
        "other",
        "b",
    )


def test_one_that_the_policy_does_not_name_is_not_drawn_and_stands_by() -> None:
    policies = Policies(settings_of("a", "b"))
    policies.apply(record_of(policy_of(1, b=1.0)))
    assert weights(policies) == {"a": 0.0, "b": 1.0}


def test_what_falls_to_one_that_is_not_here_goes_to_the_others_in_proportion(
    caplog: pytest.LogCaptureFixture,
) -> None:
    policies = Policies(settings_of("a", "b"))
    policies.apply(record_of(policy_of(1, a=0.1, b=0.3, x=0.6)))
    drawn = {
        policies.current.draw(f"run {number}").variant: policies.current.draw(f"run {number}") for number in range(100)
    }
    assert {name: one.probability for name, one in drawn.items()} == pytest.approx({"a": 0.25, "b": 0.75})
    (said,) = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert said.startswith("policy answer version 1 draws x too")


def test_where_the_policy_draws_none_that_is_here_the_settings_weights_hold(caplog: pytest.LogCaptureFixture) -> None:
    policies = Policies(settings_of("a", "b"))
    policies.apply(record_of(policy_of(1, b=1.0)))
    policies.apply(record_of(policy_of(2, a=0.0, x=1.0)))
    assert (policies.current.version, weights(policies)) == (0, {"a": 1.0, "b": 0.0})
    assert "version 2 draws x alone" in caplog.text
    policies.apply(record_of(policy_of(1, b=1.0)))
    assert policies.current.version == 0, "a version that is over does not come back"


@pytest.mark.parametrize("late", [2, 3])
def test_a_version_that_is_not_higher_than_the_one_in_force_is_passed_over(late: int) -> None:
    policies = Policies(settings_of("a", "b"))
    policies.apply(record_of(policy_of(3, b=1.0)))
    policies.apply(record_of(policy_of(late, a=1.0)))
    assert (policies.current.version, weights(policies)) == (3, {"a": 0.0, "b": 1.0})


async def test_a_log_that_was_made_again_begins_with_version_1_and_what_was_in_force_stays_so_until_it_was_read() -> (
    None
):
    policies = Policies(settings_of("a", "b"))
    policies.apply(record_of(policy_of(3, b=1.0)))
    policies.settle()
    before = policies.known
    await policies.reset()
    assert (before, policies.known) == (True, False)
    assert (policies.current.version, weights(policies)) == (3, {"a": 0.0, "b": 1.0})
    policies.apply(record_of(policy_of(1, a=0.5, b=0.5)))
    policies.settle()
    assert (policies.current.version, weights(policies)) == (1, {"a": 0.5, "b": 0.5})


async def test_where_the_log_was_made_again_without_a_policy_the_settings_weights_hold(
    caplog: pytest.LogCaptureFixture,
) -> None:
    policies = Policies(settings_of("a", "b"))
    policies.settle()
    policies.apply(record_of(policy_of(3, b=1.0)))
    await policies.reset()
    policies.settle()
    assert (policies.current.version, weights(policies)) == (0, {"a": 1.0, "b": 0.0})
    assert "poise.policy has no policy answer any more: the settings' weights hold" in caplog.text


@pytest.mark.parametrize("value", [b"", b"{}", b"no json", None, policy_of(4, a=1.0).encode().replace(b"4", b'"?"')])
def test_what_cannot_be_read_leaves_in_force_what_is(value: bytes | None) -> None:
    policies = Policies(settings_of("a", "b"))
    policies.apply(record_of(policy_of(1, b=1.0)))
    with pytest.raises(ValidationError):
        policies.apply(Record("poise.policy", 0, 7, 1.0, b"answer", value))
    assert policies.current.version == 1
    policies.apply(record_of(policy_of(2, a=0.5, b=0.5)))
    assert policies.current.version == 2


@given(shares, st.text(max_size=8))
def test_some_variant_of_the_worker_is_drawn_with_the_probability_that_is_said(
    given_weights: dict[str, float], run: str
) -> None:
    now = apply_weights(settings_of(*NAMES), policy_of(7, "answer", **given_weights), b"secret")
    here = {name: weight for name, weight in given_weights.items() if name in NAMES and weight > 0}
    drawn = now.draw(run)
    assert now.version == (7 if here else 0)
    assert drawn.probability == pytest.approx(here[drawn.variant] / sum(here.values()) if here else 1.0)


def test_a_draw_of_a_variant_that_has_gone_since_is_made_anew() -> None:
    now = Policies(settings_of("a", "b")).current
    kept = Draw(variant="b", probability=0.1, policy="answer", policy_version=6)
    assert now.resolve(kept, "run") == (kept, now.settings.variants[1])
    gone = kept.model_copy(update={"variant": "x"})
    assert now.resolve(gone, "run") == (now.draw("run"), now.settings.variants[0])
