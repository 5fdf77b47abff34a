"""Explains one decision about a policy to a reader who has never seen one. Pure."""

import time
from collections.abc import Iterator, Mapping
from typing import Final

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from poise.cli.policy_view import STYLES, action_text, format_share, weight_changes
from poise.cli.table import GAP
from poise.cli.text import clean, format_duration, plural
from poise.contracts.policy import DECREASES, Criterion, Decision, Finding, Policy, Sample
from poise.contracts.record import RunRecord

ABOUT: Final[Mapping[Criterion, str]] = {
    "others": "worse than the other variants at the same time",
    "past": "worse than it was itself before",
    "range": "below the minimum that the policy allows",
    "latency": "slower than the policy allows",
    "cost": "more expensive than the policy allows",
}
CEILING_WORDS: Final[Mapping[str, str]] = {"latency": "too slow", "cost": "too expensive"}
"""Criteria whose samples are shares of answers above a ceiling."""
AXIS: Final = 30
"""Columns of an interval's axis."""
MAX_SHOWN_RUNS: Final = 5
MAX_SHOWN_CHARS: Final = 200
"""Characters that are shown of a question, and of an answer."""


def decision_explanation(
    decision: Decision, policy: Policy | None, runs: Mapping[str, RunRecord], now: float
) -> RenderableType:
    """Explain a decision.

    Args:
        decision: The decision.
        policy: The policy in force now; None = none.
        runs: The records of the runs with the most weight, as far as they are retained.
        now: Unix seconds.
    """
    lines: list[RenderableType] = [*_head(decision, now)]
    if decision.finding is not None:
        finding = decision.finding
        score = policy.spec.limits.score if policy is not None else "the score"
        lines += [_title("Evidence"), _indented(_evidence(finding, score))]
        lines += [_title("Confidence"), _indented(_confidence(decision, finding, policy))]
    lines += [_title("Change"), _indented(_change(decision))]
    if decision.finding is not None and decision.finding.runs:
        lines += [_title("Answers with the most weight"), _indented(_heaviest_runs(decision.finding, runs))]
    lines += [_title("Next steps"), _indented(_next_steps(decision, policy))]
    return Group(*lines)


def _head(decision: Decision, now: float) -> Iterator[Text]:
    by = "by the loop" if decision.by == "loop" else f"by {clean(decision.by)}"
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(decision.at))
    yield Text.assemble(
        (clean(decision.id), "bold cyan"),
        GAP,
        (action_text(decision), STYLES.get(decision.action, "bold")),
        (f"  {by}, {when}, {format_duration(max(0.0, now - decision.at))} ago", "dim"),
    )
    yield Text(clean(decision.reason))


def _title(text: str) -> Text:
    return Text(f"\n{text}", "bold")


def _indented(lines: Iterator[Text]) -> RenderableType:
    return Padding(Group(*lines), (0, 0, 0, len(GAP)))


# -- evidence ----------------------------------------------------------------------------------------------------


def _evidence(finding: Finding, score: str) -> Iterator[Text]:
    samples = finding.samples
    if not samples:
        return
    low, high = (f(getattr(sample, end) for sample in samples.values()) for f, end in ((min, "low"), (max, "high")))
    width = max(map(len, samples))
    counts = {name: plural(sample.count, "answer") for name, sample in samples.items()}
    for name, sample in samples.items():
        style = "bold red" if name == finding.variant else ""
        mean = f"{sample.mean:.1%}".replace("%", " %") if finding.about in CEILING_WORDS else f"{sample.mean:.2f}"
        yield Text.assemble(
            (clean(name).ljust(width), style or "cyan"),
            GAP,
            counts[name].rjust(max(map(len, counts.values()))),
            GAP,
            (mean.rjust(6), style),
            GAP,
            (interval_bar(sample, low, high), style),
        )
    what = (
        f"the share that was {CEILING_WORDS[finding.about]}"
        if finding.about in CEILING_WORDS
        else f"mean {clean(score)}, 0 to 1"
    )
    yield Text(f"{what}, ├─ with its 95 % confidence interval ─┤", "dim")


def interval_bar(sample: Sample, low: float, high: float, width: int = AXIS) -> str:
    """Draw an interval on an axis: `  ├──●──┤   `."""

    def column(value: float) -> int:
        return round((min(max(value, low), high) - low) / (high - low) * (width - 1)) if high > low else 0

    begin, end = column(sample.low), column(sample.high)
    cells = [" "] * width
    cells[begin : end + 1] = "─" * (end + 1 - begin)
    cells[begin], cells[end] = "├", "┤"
    cells[column(sample.mean)] = "●"
    return "".join(cells).rstrip()


def _confidence(decision: Decision, finding: Finding, policy: Policy | None) -> Iterator[Text]:
    problem = ABOUT[finding.about]
    if decision.action == "promote":
        passes = format_share(1 / finding.threshold)
        yield Text(
            f"Evidence that {clean(finding.variant)} is no longer {problem}, within the margin: {_statistic(finding)}."
        )
        yield Text(f"If it still were, it would pass this test with a probability of at most {passes}.")
    else:
        yield Text(f"Evidence that {clean(finding.variant)} is {problem}: {_statistic(finding)}.")
        often = plural(_false_alarm_interval(finding, policy), "answer")
        yield Text(f"Without a real change, this happens by chance at most once in {often} on average.")
    since = time.strftime("%H:%M:%S", time.localtime(finding.since))
    yield Text(
        f"Method: {clean(finding.method)}. It is based on answers since {since},"
        f" {format_duration(max(0.0, decision.at - finding.since))} before the decision.",
        "dim",
    )


def _statistic(finding: Finding) -> str:
    return f"{finding.statistic:,.0f} reached {finding.threshold:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def _false_alarm_interval(finding: Finding, policy: Policy | None) -> int:
    """Return the mean number of answers between two false alarms.

    That is the limit that a person set; the threshold is slightly higher.
    """
    quiet = policy.spec.limits.mean_answers_between_false_alarms if policy is not None else 0
    return quiet if quiet <= finding.threshold <= quiet * 1.1 else round(finding.threshold)


# -- change and next steps -----------------------------------------------------------------------------------


def _change(decision: Decision) -> Iterator[Text]:
    if decision.action == "refuse":
        yield Text("Nothing.")
        return
    if not decision.acted and decision.before != decision.after:
        yield Text("Nothing: a dry run, or held. It would have set:", "yellow")
    elif decision.before == decision.after:
        yield Text("The weights did not change.")
        return
    yield from weight_changes(decision.before, decision.after)


def _heaviest_runs(finding: Finding, runs: Mapping[str, RunRecord]) -> Iterator[Text]:
    for run in finding.runs[:MAX_SHOWN_RUNS]:
        record = runs.get(run)
        if record is None:
            yield Text.assemble(
                (clean(run), "cyan"), ("  its record has expired: records are retained for 7 days", "dim")
            )
            continue
        wrote = record.draw.raw if record.draw is not None else None
        yield Text.assemble((clean(run), "cyan"), GAP, (f"“{_short(record.question)}”", "italic"))
        yield Text.assemble(GAP, _short(wrote) if wrote else _nothing(record))
    yield Text("`poise trace RUN` shows how an answer was made", "dim")


def _nothing(record: RunRecord) -> str:
    return "no text" + (f": {_short(record.fault.title)}" if record.fault is not None else "")


def _short(text: str) -> str:
    line = " ".join(clean(text).split())
    return line if len(line) <= MAX_SHOWN_CHARS else f"{line[:MAX_SHOWN_CHARS]}…"


def _next_steps(decision: Decision, policy: Policy | None) -> Iterator[Text]:
    name = clean(decision.policy)
    choices = [(f"poise policy show {name}", "show its status now")]
    if decision.action in (*DECREASES, "promote") and decision.acted:
        choices.append((f"poise policy revert --policy {name}", "undo the last change"))
    if policy is not None and policy.held:
        choices.append((f"poise policy release {name}", "let the loop move weights again"))
    else:
        choices.append((f"poise policy hold {name}", "stop the loop from moving weights"))
    choices.append((f"poise policy replay {name}", "reproduce this decision from the logs"))
    width = max(len(command) for command, _ in choices)
    for command, what in choices:
        yield Text.assemble((command.ljust(width), "bold"), GAP, (what, "dim"))
