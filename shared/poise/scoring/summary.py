"""Summaries of scores: each variant's means and percentiles, with how sure they are."""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from poise.contracts import Score

Z95 = statistics.NormalDist().inv_cdf(0.975)


@dataclass(frozen=True, slots=True)
class Estimate:
    """One score of one variant."""

    count: int
    mean: float
    low: float
    """The lower end of the 95 % confidence interval of the mean (normal approximation)."""
    high: float
    p50: float
    p95: float


@dataclass(frozen=True, slots=True)
class VariantSummary:
    """One variant's scores by name."""

    variant: str
    runs: int
    rungs: dict[str, int]
    values: dict[str, Estimate]


def estimate(values: Sequence[float]) -> Estimate:
    """Summarise a score's values.

    Raises:
        ValueError: There are none.
    """
    if not values:
        raise ValueError("no values to summarise")
    mean = statistics.fmean(values)
    half = Z95 * statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.inf
    ordered = sorted(values)
    return Estimate(len(ordered), mean, mean - half, mean + half, _percentile(ordered, 0.5), _percentile(ordered, 0.95))


def summarise(scores: Iterable[Score]) -> list[VariantSummary]:
    """Summarise scores by variant, the most used first; a run that was scored twice counts once, as it was last."""
    latest = {score.run_id: score for score in scores}
    summaries = []
    for variant in {score.variant for score in latest.values()}:
        own = [score for score in latest.values() if score.variant == variant]
        names = dict.fromkeys(name for score in own for name in score.values)
        values = {name: estimate([score.values[name] for score in own if name in score.values]) for name in names}
        rungs = {rung: sum(score.rung == rung for score in own) for rung in dict.fromkeys(s.rung for s in own)}
        summaries.append(VariantSummary(variant, len(own), rungs, values))
    return sorted(summaries, key=lambda summary: (-summary.runs, summary.variant))


def _percentile(ordered: Sequence[float], share: float) -> float:
    """The nearest-rank percentile."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
