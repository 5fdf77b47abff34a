from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from poise.telemetry import adjust, count, measure, metrics, observe, sdk, semconv

Points = dict[frozenset[Any], Any]
"""The points of a metric by their attributes."""
Collect = Callable[[], dict[str, Points]]

PLACE = {semconv.MESSAGING_DESTINATION: "poise.ask.interactive"}


@pytest.fixture
def collected() -> Iterator[Collect]:
    """Yield a function that collects {metric: {attributes: point}}."""
    reader = InMemoryMetricReader()
    provider, recorder = sdk.meter_provider(sdk.resource("testing", "testing-1"), [reader])
    metrics.activate(recorder)

    def collect() -> dict[str, Points]:
        data = reader.get_metrics_data()
        return {
            metric.name: {frozenset((point.attributes or {}).items()): point for point in metric.data.data_points}
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    yield collect
    metrics.deactivate(recorder)
    provider.shutdown()


def points(metric: Points) -> dict[frozenset[Any], float]:
    return {attributes: point.value for attributes, point in metric.items()}


def test_count_sums_by_attributes_in_any_order(collected: Collect) -> None:
    count(semconv.CALLS, 1, {semconv.MESSAGING_DESTINATION: "a", semconv.OUTCOME: "ok"})
    count(semconv.CALLS, 2, {semconv.OUTCOME: "ok", semconv.MESSAGING_DESTINATION: "a"})
    count(semconv.CALLS, 5, {semconv.MESSAGING_DESTINATION: "a", semconv.OUTCOME: "fault"})

    key = {(semconv.MESSAGING_DESTINATION, "a")}
    assert points(collected()["poise.calls"]) == {
        frozenset(key | {(semconv.OUTCOME, "ok")}): 3,
        frozenset(key | {(semconv.OUTCOME, "fault")}): 5,
    }


def test_adjust_increases_and_decreases(collected: Collect) -> None:
    for amount in (1, 1, 1, -2):
        adjust(semconv.IN_FLIGHT, amount, PLACE)

    assert points(collected()["poise.in_flight"]) == {frozenset(PLACE.items()): 1}


def test_measure_fills_the_buckets_of_its_instrument(collected: Collect) -> None:
    measure(semconv.SEARCH_DURATION, 0.004, {semconv.MODE: "hybrid"})
    measure(semconv.SEARCH_DURATION, 0.2, {semconv.MODE: "hybrid"})

    (point,) = collected()["poise.search.duration"].values()
    assert tuple(point.explicit_bounds) == semconv.SECONDS_BUCKETS
    assert (point.count, point.sum) == (2, pytest.approx(0.204))


def test_gauge_is_read_at_each_collection_until_unregistered(collected: Collect) -> None:
    size = 3
    forget = observe(semconv.INDEX_PASSAGES, lambda: size)
    also = observe(semconv.ASSIGNED, lambda: [(2, PLACE)])

    assert points(collected()["poise.index.passages"]) == {frozenset(): 3}
    size = 7
    now = collected()
    assert points(now["poise.index.passages"]) == {frozenset(): 7}
    assert points(now["poise.assigned"]) == {frozenset(PLACE.items()): 2}
    forget()
    also()
    assert "poise.index.passages" not in collected()


def test_nothing_is_recorded_without_an_active_recorder(collected: Collect) -> None:
    count(semconv.REPLIES_LATE)
    recorder = metrics._recorders[-1]
    metrics.deactivate(recorder)
    count(semconv.REPLIES_LATE)
    measure(semconv.SEARCH_DURATION, 1.0)
    adjust(semconv.IN_FLIGHT, 1)
    metrics.activate(recorder)

    assert points(collected()["poise.replies.late"]) == {frozenset(): 1}


def test_attribute_sets_above_the_limit_share_one_series() -> None:
    recorder = metrics.Recorder([semconv.ANSWERS], {})
    for number in range(metrics.MAX_SERIES + 10):
        recorder.add(semconv.ANSWERS, 1, {semconv.VARIANT: number})
    recorder.add(semconv.ANSWERS, 1, {semconv.VARIANT: 0})

    sums = recorder.sums(semconv.ANSWERS)
    assert len(sums) == metrics.MAX_SERIES + 1
    assert (10, {"otel.metric.overflow": True}) in sums
    assert (2, {semconv.VARIANT: 0}) in sums


@given(st.lists(st.tuples(st.permutations(["a", "b", "c"]), st.integers(0, 2), st.integers(1, 9))))
def test_sums_are_exact(additions: list[tuple[list[str], int, int]]) -> None:
    recorder = metrics.Recorder([semconv.CALLS], {})
    for order, value, amount in additions:
        recorder.add(semconv.CALLS, amount, dict.fromkeys(order, value))

    expected: dict[object, float] = {}
    for _, value, amount in additions:
        expected[value] = expected.get(value, 0) + amount
    assert {attributes["a"]: amount for amount, attributes in recorder.sums(semconv.CALLS)} == expected
