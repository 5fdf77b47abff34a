from asyncio import CancelledError
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise.contracts import Fault
from poise.errors import DeadlineExceededError, FaultError, NotAcknowledgedError, TransportError, UnavailableError
from poise.resilience.breaker import BreakerLimits
from poise.telemetry import semconv
from poise.telemetry.metrics import observations
from poise_services.orchestration.breakers import MAX_OPEN_SECONDS, Breakers
from poise_services.orchestration.fault_rules import (
    FAULT_RULES,
    MIN_CONCLUSIVE_BUDGET,
    BreakerSignal,
    NextCandidates,
    TriedVariant,
    candidates,
    rule_for,
    signal_of,
)
from poise_services.orchestration.settings import Variant
from poise_services.orchestration.time_budget import fair_share

BIG = Variant(name="big", backend="cloud", weight=5, context_window=128_000)
SMALL = Variant(name="small", backend="gpu", weight=3, context_window=8_000)
SHORT = Variant(name="short", backend="gpu", weight=1, context_window=8_000)
SPARE = Variant(name="spare", backend="local", weight=0)
ALL = (SPARE, SHORT, SMALL, BIG)


def fault(name: str) -> Fault:
    return Fault(type=f"urn:poise:{name}", title="t", status=500, detail="d", retryable=False)


@pytest.mark.parametrize(
    ("name", "said", "then"),
    [
        ("unavailable", "failed", "other_backend"),
        ("temporary", "failed", "other_backend"),
        ("deadline-exceeded", "failed", "any"),
        ("not-taken", "inconclusive", "any"),
        ("rate-limited", "open_as_asked", "other_backend"),
        ("context-too-long", "answered", "larger_context"),
        ("content-filtered", "answered", "none"),
        ("invalid", "answered", "other_backend"),
        ("failed", "answered", "other_backend"),
        ("cancelled", "inconclusive", "none"),
        ("internal", "failed", "other_backend"),
        ("anything-new", "failed", "other_backend"),
    ],
)
def test_what_each_fault_means(name: str, said: BreakerSignal, then: NextCandidates) -> None:
    found = rule_for(f"urn:poise:{name}")
    assert (found.breaker_signal, found.next_candidates) == (said, then)
    assert signal_of(fault(name), MIN_CONCLUSIVE_BUDGET) == said


def test_every_fault_rule_is_tested() -> None:
    assert len(FAULT_RULES) == 10


def test_a_timeout_after_a_tiny_budget_is_not_a_failure() -> None:
    assert signal_of(fault("deadline-exceeded"), MIN_CONCLUSIVE_BUDGET - 0.1) == "inconclusive"
    assert signal_of(fault("unavailable"), 0.1) == "failed"


@pytest.mark.parametrize(
    ("tried", "names"),
    [
        ([(BIG, "any")], ["small", "short", "spare"]),
        ([(SMALL, "other_backend")], ["big", "spare"]),
        ([(SMALL, "larger_context")], ["big"]),
        ([(BIG, "larger_context")], []),
        ([(SPARE, "larger_context")], ["big", "small", "short"]),
        ([(BIG, "none")], []),
        ([(BIG, "any"), (SMALL, "other_backend")], ["spare"]),
    ],
)
def test_which_variants_are_worth_asking_next(tried: list[tuple[Variant, NextCandidates]], names: list[str]) -> None:
    found = candidates(ALL, [TriedVariant(variant, then) for variant, then in tried])
    assert [variant.name for variant in found] == names
    assert candidates(ALL[::-1], [TriedVariant(variant, then) for variant, then in tried]) == found, (
        "whatever order they are in"
    )


def test_candidates_are_ordered_by_health_then_weight_then_name() -> None:
    found = candidates(ALL, [TriedVariant(BIG, "any")], {"small": "half-open", "short": "closed"})
    assert [variant.name for variant in found] == ["short", "spare", "small"]
    equals = [Variant(name=name) for name in "cab"]
    assert [variant.name for variant in candidates(equals, [])] == ["a", "b", "c"]


@given(st.floats(0, 1e6), st.lists(st.floats(0, 1), max_size=5))
def test_the_last_step_has_as_much_time_as_the_first(left: float, used: list[float]) -> None:
    """Check that the time that a step leaves unused is added to the shares of later steps."""
    first = fair_share(left, len(used))
    for place, part in enumerate(used):
        left -= part * fair_share(left, len(used) - place)
    assert fair_share(left, 0) >= first * (1 - 1e-9)


# -- breakers ----------------------------------------------------------------------------------------------------------


class BreakerClock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def ended(breakers: Breakers, name: str, said: BreakerSignal, rest: float | None = None) -> None:
    since = breakers.admit(name)
    assert since is not None
    breakers.record(name, since, said, rest)


def test_a_failing_variant_opens_only_its_own_breaker() -> None:
    clock = BreakerClock()
    breakers = Breakers(ALL, BreakerLimits(min_calls=3, open_for=2.0), clock)
    for _ in range(3):
        ended(breakers, "big", "failed")
    assert breakers.admit("big") is None
    assert breakers.admit("small") is not None
    clock.now += 2
    assert breakers.states()["big"] == "half-open"
    ended(breakers, "big", "answered")
    assert breakers.states()["big"] == "closed"


def test_a_retry_after_opens_the_breaker_for_as_long_up_to_a_limit() -> None:
    clock = BreakerClock()
    breakers = Breakers(ALL, clock=clock)
    ended(breakers, "big", "open_as_asked", 60.0)
    clock.now += 59.9
    assert breakers.admit("big") is None
    clock.now += 0.2
    ended(breakers, "big", "open_as_asked", 1e9)
    clock.now += MAX_OPEN_SECONDS
    assert breakers.admit("big") is not None


def test_a_rate_limit_without_a_retry_after_counts_as_a_failure() -> None:
    breakers = Breakers(ALL, BreakerLimits(min_calls=2), BreakerClock())
    ended(breakers, "big", "open_as_asked")
    assert breakers.states()["big"] == "closed"
    ended(breakers, "big", "open_as_asked")
    assert breakers.states()["big"] == "open"


def test_a_call_admitted_by_another_worker_is_not_recorded() -> None:
    breakers = Breakers(ALL, BreakerLimits(min_calls=1), BreakerClock())
    breakers.record("big", None, "failed")
    assert breakers.states()["big"] == "closed"


def test_an_abandoned_probe_admits_another() -> None:
    clock = BreakerClock()
    breakers = Breakers(ALL, BreakerLimits(min_calls=1), clock)
    ended(breakers, "big", "failed")
    clock.now += 2
    probe = breakers.admit("big")
    assert breakers.admit("big") is None
    breakers.record("big", probe, "inconclusive")
    assert breakers.admit("big") is not None


def test_open_breakers_are_exported_while_the_worker_runs() -> None:
    with Breakers((BIG, SMALL), BreakerLimits(min_calls=1), BreakerClock()) as breakers:
        ended(breakers, "big", "failed")
        seen = observations(semconv.VARIANT_OPEN)
    assert seen == [(1.0, {semconv.VARIANT: "big"}), (0.0, {semconv.VARIANT: "small"})]
    assert observations(semconv.VARIANT_OPEN) == []


# -- unresponsive tiers --------------------------------------------------------------------------------------------


def silence(breakers: Breakers, given: float = 10.0, error: BaseException | None = None) -> None:
    with (
        suppress(TransportError, FaultError, CancelledError),
        breakers.guarded("retrieve", given),
    ):
        raise error or DeadlineExceededError("no reply")


def left_alone(breakers: Breakers) -> bool:
    try:
        with breakers.guarded("retrieve", 10.0):
            pass
    except UnavailableError:
        return True
    return False


def test_an_unresponsive_tier_fails_fast() -> None:
    clock = BreakerClock()
    breakers = Breakers(ALL, BreakerLimits(min_calls=2, open_for=2.0), clock)
    silence(breakers)
    silence(breakers)
    assert left_alone(breakers)
    with breakers.guarded("fetch.other", 10.0):
        pass  # the tier of another step responds
    clock.now += 2.5
    assert not left_alone(breakers), "the probe was answered"
    assert not left_alone(breakers)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        (1.0, DeadlineExceededError("so little time says nothing")),
        (10.0, FaultError(Fault(type="urn:poise:failed", title="F", status=500, detail="d", retryable=False))),
        (10.0, NotAcknowledgedError("Kafka did not take it, so nobody was asked")),
        (10.0, CancelledError()),
    ],
)
def test_only_timeouts_open_the_breaker_of_a_tier(given: float, error: BaseException) -> None:
    breakers = Breakers(ALL, BreakerLimits(min_calls=2), BreakerClock())
    for _ in range(5):
        silence(breakers, given, error)
    assert not left_alone(breakers)
