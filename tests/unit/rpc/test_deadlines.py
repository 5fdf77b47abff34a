"""Deadlines: absent, wished for, clamped, absurd."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise.contracts.topics import INFERENCE_INTERACTIVE, INTERACTIVE, NO_DEADLINE, RECORDS
from poise.errors import InvalidMessageError
from poise.rpc.deadlines import limit_note, resolve_deadline

NOW = 1_800_000_000.0
YEAR_9999 = 253_370_764_800_000


def test_an_absent_one_is_the_lanes_default() -> None:
    assert resolve_deadline(None, NOW, INTERACTIVE) == NOW + INTERACTIVE.default
    assert resolve_deadline(None, NOW, NO_DEADLINE) == math.inf


def test_that_more_was_asked_for_than_is_allowed_is_said() -> None:
    told = " (320 s were requested, and poise.inference.requests.interactive allows 300 s)"
    assert limit_note(320.0, INFERENCE_INTERACTIVE) == told
    assert limit_note(300.0, INFERENCE_INTERACTIVE) == ""
    assert limit_note(1e9, RECORDS) == ""


@pytest.mark.parametrize("absurd", [0, YEAR_9999, round((NOW - 86_400) * 1_000), 10**17])
def test_an_absurd_one_is_refused_by_name(absurd: int) -> None:
    with pytest.raises(InvalidMessageError) as caught:
        resolve_deadline(absurd, NOW, INTERACTIVE)
    assert [error.field for error in caught.value.errors] == ["poise-deadline"]


@given(st.floats(-40_000, 40_000))
def test_a_sensible_one_holds_up_to_the_longest(seconds: float) -> None:
    deadline = resolve_deadline(round((NOW + seconds) * 1_000), NOW, INTERACTIVE)
    assert deadline == pytest.approx(NOW + min(seconds, INTERACTIVE.longest), abs=0.001)
