"""Deadlines: absent, requested, limited and out of range."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise.contracts.topics import INFERENCE_INTERACTIVE, INTERACTIVE, NO_DEADLINE, RECORDS
from poise.errors import InvalidMessageError
from poise.rpc.deadlines import limit_note, resolve_deadline

NOW = 1_800_000_000.0
YEAR_9999 = 253_370_764_800_000


def test_absent_deadline_is_the_default_of_the_lane() -> None:
    assert resolve_deadline(None, NOW, INTERACTIVE) == NOW + INTERACTIVE.default
    assert resolve_deadline(None, NOW, NO_DEADLINE) == math.inf


def test_limit_note_states_that_the_requested_deadline_was_limited() -> None:
    told = " (320 s were requested, and poise.inference.requests.interactive allows 300 s)"
    assert limit_note(320.0, INFERENCE_INTERACTIVE) == told
    assert limit_note(300.0, INFERENCE_INTERACTIVE) == ""
    assert limit_note(1e9, RECORDS) == ""


@pytest.mark.parametrize("absurd", [0, YEAR_9999, round((NOW - 86_400) * 1_000), 10**17])
def test_out_of_range_deadline_is_rejected_by_the_name_of_its_header(absurd: int) -> None:
    with pytest.raises(InvalidMessageError) as caught:
        resolve_deadline(absurd, NOW, INTERACTIVE)
    assert [error.field for error in caught.value.errors] == ["poise-deadline"]


@given(st.floats(-40_000, 40_000))
def test_requested_deadline_is_limited_to_the_longest_of_the_lane(seconds: float) -> None:
    deadline = resolve_deadline(round((NOW + seconds) * 1_000), NOW, INTERACTIVE)
    assert deadline == pytest.approx(NOW + min(seconds, INTERACTIVE.longest), abs=0.001)
