"""Summaries of scores: each variant's means and percentiles, with how sure they are."""

import math
import statistics
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
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
    """0 = there is only feedback, on runs from before."""
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


def summarise_by_variant(scores: Iterable[Score]) -> list[VariantSummary]:
    """Summarise scores by variant, the most used first.

    A run that was scored twice counts once, as it was last; so does feedback with one id on one run, value by value.
    """
    runs: dict[str, Score] = {}
    said: dict[tuple[str, str, str], Score] = {}
    for score in scores:
        if score.feedback is None:
            runs[score.run_id] = score
            continue
        for name in score.values:
            key = (score.run_id, score.feedback, name)
            if key not in said or said[key].at <= score.at:  # its order is not that of the log: some of it waited
                said[key] = score
    variants = {score.variant for score in (*runs.values(), *said.values())}
    summaries = [_summary(variant, runs.values(), said) for variant in variants]
    return sorted(summaries, key=lambda summary: (-summary.runs, summary.variant))


def _summary(variant: str, runs: Collection[Score], said: Mapping[tuple[str, str, str], Score]) -> VariantSummary:
    own = [score for score in runs if score.variant == variant]
    found: dict[str, list[float]] = {}
    for score in own:
        for name, value in score.values.items():
            found.setdefault(name, []).append(value)
    for (_, _, name), score in said.items():
        if score.variant == variant:
            found.setdefault(name, []).append(score.values[name])
    values = {name: estimate(those) for name, those in found.items()}
    return VariantSummary(variant, len(own), dict(Counter(score.rung for score in own)), values)


def _percentile(ordered: Sequence[float], share: float) -> float:
    """The nearest-rank percentile."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
