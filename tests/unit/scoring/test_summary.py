"""Summaries: each run once, means with their intervals."""

import math

import pytest

from poise.contracts import Score
from poise.scoring import summarise
from poise.scoring.summary import estimate


def score(run: str, variant: str = "a", rung: str = "primary", **values: float) -> Score:
    return Score(
        run_id=run,
        workflow="answer",
        tenant="t",
        policy="answer",
        policy_version=1,
        variant=variant,
        probability=1.0,
        rung=rung,
        at=1.0,
        values=values,
    )


def test_a_run_scored_twice_counts_once_as_it_was_last() -> None:
    (summary,) = summarise([score("r", g=0.0), score("s", g=1.0), score("r", g=1.0)])
    assert summary.runs == 2
    assert summary.values["g"].mean == 1.0


def test_variants_stand_apart_the_most_used_first() -> None:
    first, second = summarise([score("1", "b"), score("2", "a"), score("3", "a", "canned")])
    assert (first.variant, first.runs, first.rungs) == ("a", 2, {"primary": 1, "canned": 1})
    assert (second.variant, second.runs) == ("b", 1)


def test_the_interval_is_that_of_the_normal_distribution() -> None:
    found = estimate([0.0, 1.0] * 50)
    half = 1.959964 * math.sqrt(0.25 * 100 / 99) / 10
    assert (found.low, found.high) == pytest.approx((0.5 - half, 0.5 + half), abs=1e-6)


def test_percentiles_are_nearest_ranks() -> None:
    found = estimate([float(n) for n in range(1, 101)])
    assert (found.p50, found.p95) == (50.0, 95.0)


def test_one_value_says_nothing_of_its_spread() -> None:
    assert estimate([0.5]).high == math.inf
    with pytest.raises(ValueError, match="no values"):
        estimate([])
