import pytest
from balance_kit import BEGAN, FAULT, NOTICED, act

from poise_labs.balance.timeline import (
    ScoredAnswer,
    Timeline,
    TimelineEvent,
    WeightsPoint,
    format_clock,
    format_percent,
    sample_of,
)


def test_quality_is_that_of_the_variants_last_answers() -> None:
    timeline = Timeline(("a", "b"), 0.0, 10.0)
    timeline.answers += [
        ScoredAnswer(1.0, "a", 0.0),
        ScoredAnswer(2.0, "a", 1.0),
        ScoredAnswer(3.0, "b", 0.2),
        ScoredAnswer(4.0, "a", 0.5),
    ]
    found = timeline.quality("a", window=2)
    assert found is not None
    assert (found.count, found.mean) == (2, 0.75)
    earlier = timeline.quality("a", until=1.5)
    assert earlier is not None
    assert earlier.mean == 0.0
    assert timeline.quality("c") is None


def test_share_is_that_of_the_version_in_force() -> None:
    timeline = Timeline(
        ("a", "b"), 0.0, 10.0, weights=[WeightsPoint(1.0, {"a": 1.0}), WeightsPoint(5.0, {"a": 0.2, "b": 0.8})]
    )
    assert [timeline.share("b", until=at) for at in (0.5, 1.0, 5.0)] == [0.0, 0.0, 0.8]
    assert timeline.share("a") == 0.2


def test_answers_between_two_events_are_counted() -> None:
    timeline = act()
    counted = timeline.answers_between("fault", "noticed", "second")
    assert counted == sum(one.variant == "second" and FAULT <= one.at - BEGAN <= NOTICED for one in timeline.answers)
    assert act(until=60.0).answers_between("fault", "noticed", "second") is None


def test_first_event_of_a_kind_counts() -> None:
    timeline = Timeline(
        ("a", "b"), 0.0, 9.0, events=[TimelineEvent(1.0, "restored", "first"), TimelineEvent(2.0, "restored", "second")]
    )
    found = timeline.first("restored")
    assert found is not None
    assert found.text == "first"
    assert timeline.first("fault") is None


@pytest.mark.parametrize(
    ("values", "low", "high"),
    [([0.4, 0.6] * 5, 0.425, 0.575), ([0.0, 1.0] * 20, 0.338, 0.662), ([0.9] * 4, 0.0, 1.0), ([0.9] * 5, 0.9, 0.9)],
)
def test_interval_uses_students_t_distribution(values: list[float], low: float, high: float) -> None:
    found = sample_of(values)
    assert found.low == pytest.approx(low, abs=0.005)
    assert found.high == pytest.approx(high, abs=0.005)


def test_sample_of_no_values_is_none() -> None:
    with pytest.raises(ValueError, match="no values"):
        sample_of([])


def test_times_and_shares_are_formatted() -> None:
    assert (format_clock(65.4), format_clock(-1.0), format_clock(600.0)) == ("1:05", "0:00", "10:00")
    assert format_percent(0.355) == "36\N{NO-BREAK SPACE}%"
