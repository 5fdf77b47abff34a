"""A run's start time is the time of its request, not of its latest execution."""

import time

import pytest
from scripted_run import ScriptedRun

from poise.workflows.run import Run
from poise.workflows.start_time import MAX_RUN_SECONDS, start_time

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("written", "began"),
    [
        (NOW - 53, NOW - 53),
        (NOW, NOW),
        (NOW + 5, NOW),
        (NOW - MAX_RUN_SECONDS - 1, NOW),
        (NOW / 1_000, NOW),
        (0.0, NOW),
    ],
)
def test_an_impossible_time_is_replaced_by_now(written: float, began: float) -> None:
    assert start_time(written, NOW) == began


def test_the_total_counts_from_the_request() -> None:
    run = Run(ScriptedRun({}, written=time.time() - 53))
    assert run.timings()["total"] >= 53_000
