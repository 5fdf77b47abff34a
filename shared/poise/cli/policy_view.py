"""Renders a policy and its decisions for a terminal. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from poise.cli.scores_view import format_interval
from poise.cli.table import Row, table
from poise.cli.text import clean, format_duration, format_ms, plural
from poise.contracts.policy import Decision, Limits, Policy, PolicySpec
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
VARIANT_ACTIONS: Final[Mapping[str, str]] = {
    "shift": "decrease {}",
    "roll back": "decrease {} to the minimum",
    "promote": "restore {}",
    "hold": "share of {} stays",
}
"""The actions on a variant on screens; the actions themselves are the values of the records."""


def policy_page(
    policy: Policy, decisions: Sequence[Decision], rows: Sequence[VariantStatus], now: float
) -> RenderableType:
    """Return a page about a policy: what is in force, each variant's status, the limits and the last decision."""
    lines: list[RenderableType] = [_head(policy, now), Text()]
    header = ("variant", "weight", "set", "answers", clean(policy.spec.limits.score), "95 % within")
    with_cost = any(row.cost for row in rows)
    lines.append(
        table(
            (*header, "95 % cost", "") if with_cost else (*header, ""), [_row(row, with_cost=with_cost) for row in rows]
        )
    )
    foot = Table.grid(padding=(0, 2))
    foot.add_row(Text("limits", "dim"), limits_line(policy.spec.limits))
    if decisions:
        last, shown = decisions[-1], any(row.why == decisions[-1].reason for row in rows)
        line = Text.assemble((action_text(last), STYLES.get(last.action, "bold")), (f", {_ago(last.at, now)}", "dim"))
        foot.add_row(Text("last", "dim"), line if shown else line.append(f": {clean(last.reason)}"))
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


def _row(row: VariantStatus, *, with_cost: bool) -> Row:
    cells = (
        clean(row.variant),
        format_share(row.share),
        format_share(row.target_share),
        f"{row.answers:,}".replace(",", "\N{NARROW NO-BREAK SPACE}"),
        format_interval(row.score) if row.score else NONE,
        format_ms(row.ms.p95) if row.ms else NONE,
    )
    cost = (f"{row.cost.p95:.3g}" if row.cost else NONE,) if with_cost else ()
    style = "bold red" if row.why else "cyan"
    return Row((*cells, *cost, row.state), clean(row.why), style)


def limits_line(limits: Limits) -> Text:
    """Return the limits of the loop in one sentence."""
    parts = [
        f"each keeps {format_share(limits.min_share)}",
        f"steps of {format_share(limits.step)} at most, {plural(limits.cooldown_answers, 'answer')} apart",
        f"one false alarm in {plural(limits.mean_answers_between_false_alarms, 'answer')}",
        f"recovered: at most {limits.margin:g} worse",
    ]
    if limits.min_score is not None:
        parts.append(f"{clean(limits.score)} {limits.min_score:g} or more")
    if limits.max_latency is not None:
        parts.append(f"95 % within {format_ms(limits.max_latency * 1_000)}")
    if limits.max_cost is not None:
        parts.append(f"95 % cost {limits.max_cost:g} at most")
    return Text(" · ".join(parts))


def unset_policy_page(name: str) -> RenderableType:
    """Return the page about a policy that was never set."""
    return Group(
        Text.assemble((clean(name), "bold cyan"), "  was never set: the weights in the settings of the workers apply,"),
        Text("and do not change. To let Poise move them within limits that you set:\n"),
        Text("  poise policy set poise.toml", "bold"),
        Text("\nwith the variants' weights, and the limits in [policy]: docs/RUNNING.md, “The policy”.", "dim"),
    )


# -- decisions --------------------------------------------------------------------------------------------------------


def decision_page(decision: Decision) -> RenderableType:
    """Return the decision on a command and the weights that it changed."""
    head = Text.assemble((clean(decision.id), "cyan"), "  ", *_summary(decision))
    return Group(head, Padding(Group(*weight_changes(decision.before, decision.after)), (0, 0, 0, 2)))


def weight_changes(before: Mapping[str, float], after: Mapping[str, float]) -> list[Text]:
    """Return a line for each variant: its weight before and after."""
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


def spec_changes(before: PolicySpec, after: PolicySpec) -> list[Text]:
    """Return a line for the limits and one for the dry run, if they change."""
    lines = []
    if before.limits != after.limits:
        lines.append(Text.assemble(("limits → ", "dim")).append_text(limits_line(after.limits)))
    if before.dry_run != after.dry_run:
        lines.append(Text(f"dry run → {'on' if after.dry_run else 'off'}", "yellow"))
    return lines


def decisions_table(decisions: Sequence[Decision], now: float) -> RenderableType:
    """Return a table of decisions, the reason below each."""
    rows = [
        Row(
            (clean(decision.id), _ago(decision.at, now), action_text(decision)),
            clean(decision.reason),
            STYLES.get(decision.action, "cyan").removeprefix("bold "),
        )
        for decision in decisions
    ]
    return table(("decision", "when", "what"), rows)


def replay_report(found: ReplayResult, logs: PolicyLogs) -> RenderableType:
    """Return the result of a replay."""
    lines = []
    if found.skipped:
        first, last = logs.decisions[0].id, logs.decisions[found.skipped - 1].id
        which = clean(first) if found.skipped == 1 else f"{clean(first)} to {clean(last)}"
        lines.append(Text(f"{which} cannot be replayed: {found.why}", "yellow"))
    if found.difference is not None:
        lines.append(Text.assemble(("differs  ", "bold red"), clean(found.difference)))
    total, scores = len(found.recorded), plural(len(logs.scores), "score")
    style = "bold green" if found.difference is None else "bold red"
    done = f"{found.reproduced} of {plural(total, 'decision')} reproduced"
    lines.append(Text.assemble((done, style), (f"  from {scores} and {plural(len(logs.commands), 'command')}", "dim")))
    return Group(*lines)


def _summary(decision: Decision) -> Iterator[tuple[str, str] | str]:
    yield action_text(decision), STYLES.get(decision.action, "bold")
    yield f": {clean(decision.reason)}"


def action_text(decision: Decision) -> str:
    """Return the action of a decision as screens show it: `would …` if only a dry run kept it from moving a share."""
    if decision.variant is None:
        action: str = decision.action
    else:
        action = VARIANT_ACTIONS.get(decision.action, f"{decision.action} {{}}").format(clean(decision.variant))
    if decision.acted or decision.action in {"refuse", "hold"}:
        return action
    return f"would {action}" if decision.before != decision.after else f"{action} (no change)"


def format_share(share: float) -> str:
    """Format a share as `5 %` or `12.5 %`."""
    return f"{share * 100:.1f}".removesuffix(".0") + " %"


def _share(share: float | None) -> str:
    return NONE if share is None else format_share(share)


def _by(who: str) -> str:
    return "the loop" if who == "loop" else clean(who)


def _ago(at: float, now: float) -> str:
    return f"{format_duration(max(0.0, now - at))} ago"
