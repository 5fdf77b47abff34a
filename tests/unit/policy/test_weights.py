"""Weights: always a distribution, never below the minimum share, never more than one step at a time."""

import math
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise.contracts.policy import Limits
from poise.policy import weights

NAMES = ("a", "b", "c", "d")
CLOSE = 1e-9


@st.composite
def policies(draw: st.DrawFn) -> tuple[dict[str, float], Limits]:
    """Generate valid weights and limits."""
    names = NAMES[: draw(st.integers(1, len(NAMES)))]
    some = st.one_of(st.just(0.0), st.floats(1e-9, 1e9), st.floats(1e300, 1e308))
    set_ = {name: draw(some) for name in names}
    if not any(set_.values()):
        set_["a"] = 1.0
    drawn = sum(weight > 0 for weight in set_.values())
    min_share = draw(st.one_of(st.floats(0, 1 / drawn), st.just(1 / drawn)))
    return set_, Limits(min_share=min(0.5, min_share), step=draw(st.floats(1e-3, 1)))


def is_distribution(shares: Mapping[str, float], set_: Mapping[str, float], limits: Limits) -> bool:
    """Check that shares sum to 1, drawn variants have the minimum share, and the others have none."""
    floors = all(shares[name] >= limits.min_share - CLOSE if set_[name] > 0 else shares[name] == 0 for name in set_)
    return shares.keys() == set_.keys() and math.isclose(math.fsum(shares.values()), 1.0, abs_tol=1e-12) and floors


@given(policies())
def test_shares_are_a_distribution_with_the_same_order_and_the_minimum_share(
    policy: tuple[dict[str, float], Limits],
) -> None:
    set_, limits = policy
    shares = weights.normalize(set_, limits)
    assert is_distribution(shares, set_, limits)
    for one in set_:
        for other in set_:
            assert set_[one] > set_[other] or shares[one] <= shares[other] + CLOSE


@given(policies(), st.lists(st.tuples(st.booleans(), st.integers(0, 3), st.integers(0, 15)), max_size=20))
def test_steps_preserve_the_distribution_the_minimum_share_and_the_step_limit(
    policy: tuple[dict[str, float], Limits], steps: list[tuple[bool, int, int]]
) -> None:
    set_, limits = policy
    target = weights.normalize(set_, limits)
    drawn = [name for name, weight in set_.items() if weight > 0]
    now = dict(target)
    for leave, which, refuge in steps:
        variant = drawn[which % len(drawn)]
        others = [name for number, name in enumerate(drawn) if name != variant and refuge & (1 << number)]
        moved = (
            weights.decrease(now, variant, others, target, limits)
            if leave
            else weights.restore(now, variant, target, limits)
        )
        assert is_distribution(moved, set_, limits)
        assert all(abs(moved[name] - now[name]) <= limits.step + CLOSE for name in set_)
        if leave:
            assert moved[variant] <= now[variant]
            assert all(moved[name] == now[name] for name in set_ if name != variant and name not in others)
        else:
            assert moved[variant] >= now[variant]
            assert all(moved[name] >= min(now[name], target[name]) - CLOSE for name in set_)
        now = moved


@given(policies())
def test_a_variant_reaches_its_minimum_share_and_its_set_weight_again(policy: tuple[dict[str, float], Limits]) -> None:
    set_, limits = policy
    target = weights.normalize(set_, limits)
    drawn = [name for name, weight in set_.items() if weight > 0]
    now, others = dict(target), drawn[1:]
    for _ in range(math.ceil(1 / limits.step) + 1):
        now = weights.decrease(now, drawn[0], others, target, limits)
    if others:
        assert now[drawn[0]] == pytest.approx(limits.min_share, abs=CLOSE)
    for _ in range(math.ceil(1 / limits.step) + 1):
        now = weights.restore(now, drawn[0], target, limits)
    assert now == pytest.approx(target, abs=CLOSE)


def test_a_lost_share_goes_to_the_others_in_proportion_to_their_set_weights() -> None:
    target = {"a": 0.5, "b": 0.3, "c": 0.2}
    limits = Limits(min_share=0.05, step=0.25)
    assert weights.decrease(target, "a", ["b", "c"], target, limits) == pytest.approx({"a": 0.25, "b": 0.45, "c": 0.3})


def test_small_weights_are_raised_to_the_minimum_share() -> None:
    shares = weights.normalize({"a": 98, "b": 1, "c": 1, "spare": 0}, Limits(min_share=0.1))
    assert shares == pytest.approx({"a": 0.8, "b": 0.1, "c": 0.1, "spare": 0.0})


@pytest.mark.parametrize(
    ("set_", "min_share", "why"),
    [
        ({"a": 0.0}, 0.05, "no variant has a weight above zero"),
        ({"a": 1.0, "b": math.inf}, 0.05, "b has none"),
        ({"a": 1.0, "b": math.nan}, 0.05, "b has none"),
        ({"a": 1.0, "b": -1.0}, 0.05, "b has none"),
        (
            {"a": 1.0, "b": 1.0, "c": 1.0},
            0.4,
            "3 variants cannot each keep 0.4 .*: min_share is at most 0.3333",
        ),
    ],
)
def test_meaningless_weights_are_refused(set_: dict[str, float], min_share: float, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        weights.normalize(set_, Limits(min_share=min_share))
