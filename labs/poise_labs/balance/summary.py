"""The summary of an act in a few lines. Pure."""

from collections.abc import Iterator, Sequence

from poise.contracts.policy import Decision, Sample
from poise_labs.balance.timeline import Timeline, format_clock, format_percent


def summary_lines(timeline: Timeline, decisions: Sequence[Decision], *, failed: int) -> list[str]:
    """Return the lines of the summary, each with a title of 12 columns.

    Args:
        timeline: The observations.
        decisions: Every decision on the act's policy.
        failed: The number of failed asks.
    """
    return [*_detection(timeline), *_moves(timeline, decisions), _totals(timeline, failed)]


def _detection(timeline: Timeline) -> Iterator[str]:
    fault, suspect = timeline.first("fault"), timeline.suspect
    if fault is None:
        return
    before = len([one for one in timeline.answers if one.at < fault.at])
    yield f"Fault        after {before} answers {suspect} got a fault. No error was raised, then or later."
    noticed = timeline.first("noticed")
    if noticed is None:
        affected = len(timeline.answers_of(suspect, since=fault.at))
        yield f"Not noticed  in {affected} answers of {suspect} since then."
        return
    affected = len(timeline.answers_of(suspect, since=fault.at, until=noticed.at))
    took = format_clock(noticed.at - fault.at)
    yield f"Noticed      {took} min later, after {affected} answers of {suspect} with the fault in place."
    if (example := timeline.example) is not None:
        yield f"Example      “{example.question}” “{example.text}”"


def _moves(timeline: Timeline, decisions: Sequence[Decision]) -> Iterator[str]:
    acted = [one for one in decisions if one.by == "loop" and one.acted and one.variant is not None]
    if not acted:
        yield "Weights      no weight moved."
    for one in acted:
        name = one.variant or ""
        what = "Restored" if one.action == "promote" else "Decreased"
        moved = f"{format_percent(one.before[name])} → {format_percent(one.after[name])} of the asks"
        yield f"{what:<11}  {name}: {moved}{_evidence(one)} ({one.id})"
    if timeline.first("noticed") is not None and timeline.first("restored") is None:
        yield f"Not restored {timeline.suspect} has not recovered yet."


def _evidence(decision: Decision) -> str:
    finding = decision.finding
    if finding is None or finding.variant not in finding.samples:
        return ""
    own = finding.samples[finding.variant]
    others = [_figure(sample) for name, sample in finding.samples.items() if name != finding.variant]
    return f"; quality {_figure(own)}" + (f" against {', '.join(others)}" if others else "")


def _figure(sample: Sample) -> str:
    return f"{sample.mean:.2f}"


def _totals(timeline: Timeline, failed: int) -> str:
    means = [
        f"{variant} {found.mean:.2f}"
        for variant in timeline.variants
        if (found := timeline.quality(variant)) is not None
    ]
    lasted = format_clock(timeline.now - timeline.began)
    errors = f"{failed} asks failed" if failed else "no ask failed"
    return f"Total        {len(timeline.answers)} answers in {lasted} min, {errors}; quality now: {', '.join(means)}."
