"""Summaries: each run counts once, and means have their intervals."""

import math

import pytest

from poise.contracts import Score
from poise.scoring import summarize_by_variant
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


def test_run_scored_twice_counts_once_with_its_last_score() -> None:
    (summary,) = summarize_by_variant([score("r", g=0.0), score("s", g=1.0), score("r", g=1.0)])
    assert summary.runs == 2
    assert summary.values["g"].mean == 1.0


def feedback_score(run: str, name: str, at: float, variant: str = "a", **values: float) -> Score:
    named = {f"feedback_{key}": value for key, value in values.items()}
    return score(run, variant).model_copy(update={"feedback": name, "at": at, "values": named})


def test_feedback_is_summarized_with_the_scores_of_its_run() -> None:
    (summary,) = summarize_by_variant(
        [score("r", g=1.0), feedback_score("r", "ada", 2.0, thumb=0.0), score("s", g=0.0)]
    )
    assert (summary.runs, summary.rungs) == (2, {"primary": 2})
    assert (summary.values["g"].count, summary.values["g"].mean) == (2, 0.5)
    assert (summary.values["feedback_thumb"].count, summary.values["feedback_thumb"].mean) == (1, 0.0)


def test_repeated_feedback_of_one_id_counts_once_with_its_last_value() -> None:
    found = [
        feedback_score("r", "ada", 2.0, thumb=0.0, rating=0.25),
        feedback_score("r", "ada", 3.0, thumb=1.0),
        feedback_score("r", "ada", 3.0, thumb=1.0),
        feedback_score("r", "bob", 2.0, thumb=0.0),
        feedback_score("s", "ada", 2.0, thumb=0.0),
    ]
    for order in (found, found[::-1]):  # the earlier feedback may have waited for its run's record
        (summary,) = summarize_by_variant(order)
        thumb, rating = summary.values["feedback_thumb"], summary.values["feedback_rating"]
        assert thumb.count == 3
        assert thumb.mean == pytest.approx(1 / 3)
        assert (rating.count, rating.mean) == (1, 0.25)


def test_feedback_on_a_run_without_scores_does_not_count_as_a_run() -> None:
    used, before = summarize_by_variant([feedback_score("r", "ada", 2.0, "b", thumb=1.0), score("s", "a", g=1.0)])
    assert (used.variant, used.runs) == ("a", 1)
    assert (before.variant, before.runs, before.rungs) == ("b", 0, {})
    assert before.values["feedback_thumb"].mean == 1.0


def test_variants_are_summarized_separately_and_sorted_by_runs() -> None:
    first, second = summarize_by_variant([score("1", "b"), score("2", "a"), score("3", "a", "canned")])
    assert (first.variant, first.runs, first.rungs) == ("a", 2, {"primary": 1, "canned": 1})
    assert (second.variant, second.runs) == ("b", 1)


def test_interval_is_that_of_the_normal_distribution() -> None:
    found = estimate([0.0, 1.0] * 50)
    half = 1.959964 * math.sqrt(0.25 * 100 / 99) / 10
    assert (found.low, found.high) == pytest.approx((0.5 - half, 0.5 + half), abs=1e-6)


def test_percentiles_are_nearest_ranks() -> None:
    found = estimate([float(n) for n in range(1, 101)])
    assert (found.p50, found.p95) == (50.0, 95.0)


def test_single_value_has_an_infinite_interval() -> None:
    assert estimate([0.5]).high == math.inf
    with pytest.raises(ValueError, match="no values"):
        estimate([])
