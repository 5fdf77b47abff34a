"""What came of the act, in a few lines with figures. Pure."""

from collections.abc import Iterator, Sequence

from poise.contracts.policy import Decision, Sample
from poise_labs.balance.timeline import Timeline, format_clock, format_percent


def summary(timeline: Timeline, decisions: Sequence[Decision], *, failed: int) -> list[str]:
    """The lines.

    Args:
        timeline: What was seen.
        decisions: Every decision on the act's policy.
        failed: Asks that brought an error.
    """
    return [*_told(timeline), *_moves(timeline, decisions), _whole(timeline, failed)]


def _told(timeline: Timeline) -> Iterator[str]:
    trouble, suspect = timeline.first("trouble"), timeline.suspect
    if trouble is None:
        return
    calm = len([one for one in timeline.answers if one.at < trouble.at])
    yield f"Trouble      after {calm} answers {suspect} got a fault. No error was raised, then or later."
    noticed = timeline.first("noticed")
    if noticed is None:
        bad = len(timeline.answers_of(suspect, since=trouble.at))
        yield f"Not noticed  in {bad} answers of {suspect} since then."
        return
    bad = len(timeline.answers_of(suspect, since=trouble.at, until=noticed.at))
    took = format_clock(noticed.at - trouble.at)
    yield f"Noticed      {took} min later, after {bad} answers of {suspect} with the fault in place."
    if (example := timeline.example) is not None:
        yield f"Such as      “{example.question}” “{example.text}”"


def _moves(timeline: Timeline, decisions: Sequence[Decision]) -> Iterator[str]:
    acted = [one for one in decisions if one.by == "loop" and one.acted and one.variant is not None]
    if not acted:
        yield "Weights      none was moved."
    for one in acted:
        name = one.variant or ""
        what = "Back" if one.action == "promote" else "Moved away"
        moved = f"{format_percent(one.before[name])} → {format_percent(one.after[name])} of the asks"
        yield f"{what:<11}  {name}: {moved}{_evidence(one)} ({one.id})"
    if timeline.first("noticed") is not None and timeline.first("back") is None:
        yield f"Not back     {timeline.suspect} has not yet shown that it recovered."


def _evidence(decision: Decision) -> str:
    finding = decision.finding
    if finding is None or finding.variant not in finding.samples:
        return ""
    own = finding.samples[finding.variant]
    others = [_figure(sample) for name, sample in finding.samples.items() if name != finding.variant]
    return f"; quality {_figure(own)}" + (f" against {', '.join(others)}" if others else "")


def _figure(sample: Sample) -> str:
    return f"{sample.mean:.2f}"


def _whole(timeline: Timeline, failed: int) -> str:
    means = [
        f"{variant} {found.mean:.2f}"
        for variant in timeline.variants
        if (found := timeline.quality(variant)) is not None
    ]
    lasted = format_clock(timeline.now - timeline.began)
    errors = f"{failed} asks failed" if failed else "no ask failed"
    return f"All of it    {len(timeline.answers)} answers in {lasted} min, {errors}; quality now: {', '.join(means)}."
