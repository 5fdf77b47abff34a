"""Summaries of scores: means with confidence intervals, and percentiles, by variant."""

import math
import statistics
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from poise.contracts import Score

Z95 = statistics.NormalDist().inv_cdf(0.975)


@dataclass(frozen=True, slots=True)
class Estimate:
    """The statistics of one score of one variant."""

    count: int
    mean: float
    low: float
    """The lower end of the 95 % confidence interval of the mean (normal approximation)."""
    high: float
    p50: float
    p95: float


@dataclass(frozen=True, slots=True)
class VariantSummary:
    """The statistics of one variant's scores, by name."""

    variant: str
    runs: int
    """The number of runs; 0 = there is only feedback on earlier runs."""
    rungs: dict[str, int]
    values: dict[str, Estimate]


def estimate(values: Sequence[float]) -> Estimate:
    """Return the statistics of values.

    Raises:
        ValueError: There are no values.
    """
    if not values:
        raise ValueError("no values to summarize")
    mean = statistics.fmean(values)
    half = Z95 * statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.inf
    ordered = sorted(values)
    return Estimate(len(ordered), mean, mean - half, mean + half, _percentile(ordered, 0.5), _percentile(ordered, 0.95))


def summarize_by_variant(scores: Iterable[Score]) -> list[VariantSummary]:
    """Return summaries by variant, the most used first.

    The last scores of a run count; so does, for each score, the last feedback with the same id on the same run.
    """
    runs: dict[str, Score] = {}
    feedback: dict[tuple[str, str, str], Score] = {}
    for score in scores:
        if score.feedback is None:
            runs[score.run_id] = score
            continue
        for name in score.values:
            key = (score.run_id, score.feedback, name)
            if key not in feedback or feedback[key].at <= score.at:  # not in log order: some of it was retried
                feedback[key] = score
    variants = {score.variant for score in (*runs.values(), *feedback.values())}
    summaries = [_summary(variant, runs.values(), feedback) for variant in variants]
    return sorted(summaries, key=lambda summary: (-summary.runs, summary.variant))


def _summary(variant: str, runs: Collection[Score], feedback: Mapping[tuple[str, str, str], Score]) -> VariantSummary:
    own = [score for score in runs if score.variant == variant]
    found: dict[str, list[float]] = {}
    for score in own:
        for name, value in score.values.items():
            found.setdefault(name, []).append(value)
    for (_, _, name), score in feedback.items():
        if score.variant == variant:
            found.setdefault(name, []).append(score.values[name])
    values = {name: estimate(those) for name, those in found.items()}
    return VariantSummary(variant, len(own), dict(Counter(score.rung for score in own)), values)


def _percentile(ordered: Sequence[float], share: float) -> float:
    """Return the nearest-rank percentile."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
