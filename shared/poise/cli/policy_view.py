"""A policy, and what was decided about it, on a screen. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from poise.cli.scores_view import format_interval
from poise.cli.table import Row, table
from poise.cli.text import clean, format_duration, format_ms, plural
from poise.contracts.policy import Decision, Limits, Policy
from poise.policy.replay import PolicyLogs, ReplayResult
from poise.policy.variant_status import MIN_CHANGE, VariantStatus

NONE: Final = "–"
STYLES: Final[Mapping[str, str]] = {
    "shift": "bold yellow",
    "roll back": "bold red",
    "promote": "bold green",
    "hold": "bold yellow",
    "refuse": "bold red",
}


def policy_page(
    policy: Policy, decisions: Sequence[Decision], rows: Sequence[VariantStatus], now: float
) -> RenderableType:
    """A policy: what is in force, how its variants stand, what it keeps, and what was decided last."""
    lines: list[RenderableType] = [_head(policy, now), Text()]
    header = ("variant", "weight", "set", "answers", clean(policy.spec.limits.score), "95 % within")
    dear = any(row.cost for row in rows)
    lines.append(table((*header, "95 % cost", "") if dear else (*header, ""), [_row(row, dear=dear) for row in rows]))
    foot = Table.grid(padding=(0, 2))
    foot.add_row(Text("limits", "dim"), limits_line(policy.spec.limits))
    if decisions:
        last, told = decisions[-1], any(row.why == decisions[-1].reason for row in rows)
        line = Text.assemble((_action(last), STYLES.get(last.action, "bold")), (f", {_ago(last.at, now)}", "dim"))
        foot.add_row(Text("last", "dim"), line if told else line.append(f": {clean(last.reason)}"))
        foot.add_row("", Text(f"poise policy explain {clean(last.id)}", "dim"))
    return Group(*lines, Text(), foot)


def _head(policy: Policy, now: float) -> Text:
    head = Text.assemble(
        (clean(policy.name), "bold cyan"),
        f"  version {policy.version}",
        (f" · by {_by(policy.by)}, {_ago(policy.at, now)}", "dim"),
    )
    if policy.held:
        head.append("  held: the weights stay", "bold yellow")
    if policy.spec.dry_run:
        head.append("  dry run: decides, does not act", "bold yellow")
    return head


def _row(row: VariantStatus, *, dear: bool) -> Row:
    cells = (
        clean(row.variant),
        format_share(row.weight),
        format_share(row.target),
        f"{row.answers:,}".replace(",", "\N{NARROW NO-BREAK SPACE}"),
        format_interval(row.score) if row.score else NONE,
        format_ms(row.ms.p95) if row.ms else NONE,
    )
    cost = (f"{row.cost.p95:.3g}" if row.cost else NONE,) if dear else ()
    style = "bold red" if row.why else "cyan"
    return Row((*cells, *cost, row.state), clean(row.why), style)


def limits_line(limits: Limits) -> Text:
    """What the loop may do and is to keep, in one sentence."""
    told = [
        f"each keeps {format_share(limits.explore)}",
        f"steps of {format_share(limits.step)} at most, {plural(limits.pause, 'answer')} apart",
        f"one false alarm in {plural(limits.quiet_answers, 'answer')}",
        f"recovered within {limits.margin:g}",
    ]
    if limits.low is not None:
        told.append(f"{clean(limits.score)} {limits.low:g} or more")
    if limits.latency is not None:
        told.append(f"95 % within {format_ms(limits.latency * 1_000)}")
    if limits.cost is not None:
        told.append(f"95 % cost {limits.cost:g} at most")
    return Text(" · ".join(told))


def unset_policy_page(name: str) -> RenderableType:
    """What is said of a policy that was never set."""
    return Group(
        Text.assemble((clean(name), "bold cyan"), "  was never set: the weights in the settings of the workers hold,"),
        Text("and nobody moves them. To have Poise move them, inside limits of yours:\n"),
        Text("  poise policy set poise.toml", "bold"),
        Text("\nwith the variants' weights, and the limits in [policy]: docs/RUNNING.md, “The policy”.", "dim"),
    )


# -- decisions --------------------------------------------------------------------------------------------------------


def decision_page(decision: Decision) -> RenderableType:
    """What came of a command: the decision, and what it changed."""
    head = Text.assemble((clean(decision.id), "cyan"), "  ", *_told(decision))
    return Group(head, Padding(Group(*weight_changes(decision.before, decision.after)), (0, 0, 0, 2)))


def weight_changes(before: Mapping[str, float], after: Mapping[str, float]) -> list[Text]:
    """What weights become, a variant a line."""
    names = dict.fromkeys((*before, *after))
    width = max(map(len, names), default=0)
    return [_change(name, width, before.get(name), after.get(name)) for name in names]


def _change(name: str, width: int, before: float | None, after: float | None) -> Text:
    line = Text.assemble((clean(name).ljust(width), "cyan"), "  ", _share(before).rjust(6))
    if before is None or after is None or abs(before - after) >= MIN_CHANGE:
        style = "green" if (after or 0.0) > (before or 0.0) else "red"
        line.append(" → ").append(_share(after), style)
    else:
        line.append("   stays", "dim")
    return line


def decisions_table(decisions: Sequence[Decision], now: float) -> RenderableType:
    """Decisions, a line each, with why below."""
    rows = [
        Row(
            (clean(decision.id), _ago(decision.at, now), _action(decision)),
            clean(decision.reason),
            STYLES.get(decision.action, "cyan").removeprefix("bold "),
        )
        for decision in decisions
    ]
    return table(("decision", "when", "what"), rows)


def replay_report(found: ReplayResult, logs: PolicyLogs) -> RenderableType:
    """What came of a replay."""
    lines = []
    if found.skipped:
        first, last = logs.decisions[0].id, logs.decisions[found.skipped - 1].id
        which = clean(first) if found.skipped == 1 else f"{clean(first)} to {clean(last)}"
        lines.append(Text(f"{which} cannot be replayed: {found.why}", "yellow"))
    if found.difference is not None:
        lines.append(Text.assemble(("differs  ", "bold red"), clean(found.difference)))
    total, scores = len(found.told), plural(len(logs.scores), "score")
    style = "bold green" if found.difference is None else "bold red"
    done = f"{found.reproduced} of {plural(total, 'decision')} reproduced"
    lines.append(Text.assemble((done, style), (f"  from {scores} and {plural(len(logs.commands), 'command')}", "dim")))
    return Group(*lines)


def _told(decision: Decision) -> Iterator[tuple[str, str] | str]:
    yield _action(decision), STYLES.get(decision.action, "bold")
    yield f": {clean(decision.reason)}"


def _action(decision: Decision) -> str:
    about = {"shift": " away from ", "roll back": " from ", "promote": " "}.get(decision.action, " for ")
    told = decision.action + (f"{about}{clean(decision.variant)}" if decision.variant is not None else "")
    return told if decision.acted or decision.action in {"refuse", "hold"} else f"would {told}"


def format_share(share: float) -> str:
    """A share: `5 %`, `12.5 %`."""
    return f"{share * 100:.1f}".removesuffix(".0") + " %"


def _share(share: float | None) -> str:
    return NONE if share is None else format_share(share)


def _by(who: str) -> str:
    return "the loop" if who == "loop" else clean(who)


def _ago(at: float, now: float) -> str:
    return f"{format_duration(max(0.0, now - at))} ago"
