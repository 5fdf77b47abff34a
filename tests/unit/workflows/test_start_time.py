"""When a run began: when it was asked for, not when a worker began it again."""

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
def test_a_time_that_cannot_be_is_now(written: float, began: float) -> None:
    assert start_time(written, NOW) == began


def test_the_total_counts_from_when_the_run_was_asked_for() -> None:
    run = Run(ScriptedRun({}, written=time.time() - 53))
    assert run.timings()["total"] >= 53_000
