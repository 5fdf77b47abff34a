"""The time windows in which the record of a run is searched."""

import random

import pytest

from poise.contracts.run_id import derive_run_id, new_run_id
from poise.kafka.log_lookup import Window
from poise.run_log.search_windows import MAX_DELAY, SEARCH_BACK, USUAL_DELAY, search_windows

NOW = 1_800_000_000.0
BY_PLACE = derive_run_id("poise.ask.interactive", 3, 42, NOW)


def a_run(ago: float) -> str:
    return new_run_id(NOW - ago, random.Random(1))


def test_run_with_a_start_time_is_searched_near_it_first() -> None:
    found = search_windows(a_run(3_600), NOW, 2.0)
    (usual,), (rest,) = found.usual, found.rest
    assert (usual.start, usual.end) == pytest.approx((NOW - 3_602, NOW - 3_600 + USUAL_DELAY), abs=0.002)
    assert (rest.start, rest.end) == pytest.approx((NOW - 3_600 + USUAL_DELAY, NOW - 3_600 + MAX_DELAY), abs=0.002)


def test_run_that_has_just_started_is_searched_only_near_its_start() -> None:
    assert search_windows(a_run(1), NOW, 2.0).rest == ()


def test_run_without_a_start_time_is_searched_backwards_to_the_beginning() -> None:
    found = search_windows(BY_PLACE, NOW, 2.0)
    assert found.usual == ()
    assert found.rest == (*(Window(NOW - back) for back in SEARCH_BACK), Window("beginning"))
    assert list(SEARCH_BACK) == sorted(SEARCH_BACK)
