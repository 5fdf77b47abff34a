"""Reasons: the evidence of a decision in one line.

A replay compares reasons word for word: a change of wording makes replays of earlier decisions differ.
"""

from collections.abc import Mapping

from poise.contracts.policy import Finding, Limits, Sample
from poise.policy.detection.detectors import ALLOWED_ABOVE_CEILING


def describe_finding(finding: Finding, limits: Limits) -> str:
    """Return what is wrong with a variant."""
    name, about = finding.variant, finding.about
    if about in {"latency", "cost"}:
        allowed = percent(ALLOWED_ABOVE_CEILING)
        return (
            f"{name} is too {'slow' if about == 'latency' else 'dear'}: {_above(finding, limits)}, where {allowed} may"
        )
    worse = {"others": "worse than the others", "past": "worse than it did before"}.get(about, "worse than it may")
    least = f", where {limits.min_score:g} is the least" if about == "range" and limits.min_score is not None else ""
    return f"{name} answers {worse}: {_scores(finding, limits)}{least}"


def describe_recovery(finding: Finding, limits: Limits) -> str:
    """Return what shows that a variant has recovered."""
    if finding.about in {"latency", "cost"}:
        most = percent(ALLOWED_ABOVE_CEILING + limits.margin)
        return f"{finding.variant} has recovered: {_above(finding, limits)}, where up to {most} counts as recovered"
    return f"{finding.variant} has recovered: {_scores(finding, limits)}"


def single_line(text: str) -> str:
    """Return a text as one printable line: people write part of a reason."""
    return " ".join("".join(one if one.isprintable() else " " for one in text).split())


def share_change(variant: str, before: Mapping[str, float], after: Mapping[str, float]) -> str:
    """Return the change of a variant's share."""
    return f"its share goes from {percent(before[variant])} to {percent(after[variant])}"


def percent(share: float) -> str:
    """Return a share as a percentage."""
    return f"{100 * share:.3g} %"


def format_weights(shares: Mapping[str, float]) -> str:
    """Return weights as percentages, in the order in which they were set."""
    return ", ".join(f"{name} {percent(share)}" for name, share in shares.items())


def _scores(finding: Finding, limits: Limits) -> str:
    """Return the variant's score, compared with the others' if there are any."""
    mine = finding.samples.get(finding.variant)
    if mine is None:
        return f"{limits.score}, by {finding.method}"
    others = {name: sample for name, sample in finding.samples.items() if name != finding.variant}
    if finding.about in {"past", "range"}:
        others = {}
    if not others:
        return f"{limits.score} {_mean(mine)} in {_answers(mine)}"
    if len(others) == 1:
        (other,) = others.values()
        return f"{limits.score} {_mean(mine)} against {_mean(other)} in {mine.count} and {other.count} answers"
    against = ", ".join(f"{_mean(sample)} of {name} in {sample.count}" for name, sample in others.items())
    return f"{limits.score} {_mean(mine)} in {_answers(mine)} against {against}"


def _above(finding: Finding, limits: Limits) -> str:
    """Return the share of the variant's answers that were above a ceiling."""
    sample = finding.samples.get(finding.variant)
    above = f"took longer than {limits.max_latency:g} s" if finding.about == "latency" and limits.max_latency else ""
    above = f"cost more than {limits.max_cost:g}" if finding.about == "cost" and limits.max_cost else above
    if sample is None:
        return f"its answers {above or 'are above the ceiling'}, by {finding.method}"
    share = f"{percent(sample.mean)} ({100 * sample.low:.3g}–{percent(sample.high)})"
    return f"{share} of {_answers(sample)} {above or 'are above the ceiling'}"


def _mean(sample: Sample) -> str:
    return f"{sample.mean:.2f} ({sample.low:.2f}–{sample.high:.2f})"


def _answers(sample: Sample) -> str:
    return f"{sample.count} answers"
