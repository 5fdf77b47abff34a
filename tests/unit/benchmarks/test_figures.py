"""The arithmetic of the benchmarks: shares, ratios, and the durations that a worker reports of its steps."""

import pytest

from tests.benchmarks.figures import FigureCollector, Ratio, percentile
from tests.benchmarks.steps.scenarios import ratios
from tests.benchmarks.steps.step_timer import summary


@pytest.mark.parametrize(("share", "value"), [(0.0, 1), (0.5, 101), (0.99, 199), (1.0, 200)])
def test_percentile_has_its_share_of_the_values_below(share: float, value: int) -> None:
    backwards = range(200, 0, -1)
    assert percentile(backwards, share) == value
    assert sum(other < value for other in backwards) == min(199, share * 200)


def test_summary_has_the_duration_of_each_workflow_and_of_all() -> None:
    told = summary([(10.0, 10.5), (10.25, 12.0), (9.0, 10.0)])
    assert told == {"took": [0.5, 1.75, 1.0], "wall": 3.0}


def test_summary_of_no_workflows_is_zero() -> None:
    assert summary([]) == {"took": [], "wall": 0.0}


def test_ratio_is_the_median_of_the_ratios_of_each_repetition() -> None:
    found = FigureCollector()
    for ours, other in ((1.0, 2.0), (2.0, 8.0), (4.0, 4.0)):
        found.add("p50 ms", "ours", ours)
        found.add("p50 ms", "other", other)
    ratio = Ratio("of both", found.ratio("p50 ms", "other", "ours"), 2.0)
    assert (ratio.values, ratio.median, ratio.met) == ([2.0, 4.0, 1.0], 2.0, True)


@pytest.mark.parametrize(("measure", "ours", "other"), [("p50 ms", 1.0, 4.0), ("steps/s", 4.0, 1.0)])
def test_ratio_above_one_means_that_poise_is_faster(
    measure: str, ours: float, other: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.benchmarks.steps.scenarios.PAIRS", (("ours", "other"), ("ours", "absent")))
    found = FigureCollector()
    found.add(measure, "ours", ours)
    found.add(measure, "other", other)
    (ratio,) = ratios(found, ["ours", "other"], (measure,))
    assert (ratio.what, ratio.values, ratio.met) == (f"{measure}: ours beside other", [4.0], True)
