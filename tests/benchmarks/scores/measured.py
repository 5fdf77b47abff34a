"""Writes the measured scores to `measured.toml`, for the benchmark of detection delays."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from tests.benchmarks.scores.separation import Bin, Judgment, Separation, calibration_error, separation

FILE: Final = Path(__file__).with_name("measured.toml")
HEAD: Final = """\
# How well the scores separate right answers from wrong ones, written by `make bench-scores ARGS=--write`. An answer
# `below threshold` is predicted to be wrong: sensitivity is the share of wrong answers that are, specificity the share
# of right answers that are not. `good` and `bad` are 21 quantiles of the score, in ascending order, of right and of
# wrong answers.
# real: the built-in model's answers that were judged one by one; edits: right answers of the reference, edited.
# mix: what one question after another brings, 74 of them, as the demo's variants write them.
"""


def table(name: str, values: Mapping[str, object]) -> str:
    """Format one table of the file."""
    return "\n".join([f"[{name}]", *(f"{key} = {_value(value)}" for key, value in values.items()), ""])


def of_score(found: Separation, bins: Sequence[Bin]) -> dict[str, object]:
    """Return the stored values of a score."""
    return asdict(found) | {
        "n": found.right + found.wrong,
        "base_rate": found.right / (found.right + found.wrong),
        "calibration_error": calibration_error(bins),
    }


def of_mix(judgments: Sequence[Judgment]) -> dict[str, object]:
    """Return the stored values of a stream of answers."""
    scores = [one.score for one in judgments]
    found = separation(judgments)
    return {
        "n": len(scores),
        "right": sum(one.right for one in judgments) / len(scores),
        "mean": statistics.fmean(scores),
        "deviation": statistics.stdev(scores),
        "zeros": scores.count(0.0) / len(scores),
        "good": found.good,
        "bad": found.bad,
    }


def _value(value: object) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{', '.join(map(_value, value))}]"
    return f"{value:.4g}" if isinstance(value, float) else repr(value)
