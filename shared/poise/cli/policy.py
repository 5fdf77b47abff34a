"""`poise policy`: what is in force over variants, changed by people and explained to them."""

import json
import math
import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import typer
from rich.text import Text

from poise.cli.connect import BrokerOption, JsonOption, open_client
from poise.cli.console import err, out, print_json
from poise.cli.errors import EXIT_FAILED, EXIT_INVALID, async_command
from poise.cli.explain_view import RUNS, decision_explanation
from poise.cli.policy_view import (
    decision_page,
    decisions_table,
    policy_page,
    replay_report,
    unset_policy_page,
    weight_changes,
)
from poise.cli.text import clean
from poise.contracts.message import Message
from poise.contracts.policy import Decision, PolicyCommand, PolicySpec
from poise.errors import InvalidMessageError, PoiseError
from poise.policy import control, decision_log
from poise.policy.policy_file import PolicyFileError, read
from poise.policy.replay import replay as replayed
from poise.policy.replay import replay_with
from poise.policy.variant_status import variant_statuses
from poise.run_log.lookup import RunLog
from poise.worker.connection import MeshConnection

app = typer.Typer(
    help="Which variant answers how often: set it, hold it, revert it; why it moved.",
    no_args_is_help=True,
    add_completion=False,
)

LATEST: Final = "latest"
NameArgument = Annotated[
    str | None,
    typer.Argument(metavar="[NAME]", show_default=False, help="The policy. Default: the only one, else `answer`."),
]
NameOption = Annotated[
    str | None,
    typer.Option(
        "--policy", metavar="NAME", show_default=False, help="The policy. Default: the only one, else answer."
    ),
]
ReasonOption = Annotated[
    str | None, typer.Option(metavar="TEXT", show_default=False, help="Why: it is kept with the decision.")
]
FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="The TOML file, such as POISE_CONFIG names.")]


@app.command()
@async_command
async def show(name: NameArgument = None, broker: BrokerOption = None, *, as_json: JsonOption = False) -> None:
    """Show what is in force: weights, limits, how each variant does, and what was decided last."""
    async with open_client(broker) as poise:
        name, policy = await decision_log.resolve(poise.mesh.logs, name)
        made = await decision_log.decisions(poise.mesh.logs, name)
        scores = await _run_log(poise.mesh).recent_scores(name) if policy is not None else []
    rows = variant_statuses(policy, made, scores) if policy is not None else []
    if as_json:
        last = _plain(made[-1]) if made else None
        variants = [_finite(asdict(row)) for row in rows]
        told = {"name": name, "policy": policy and _plain(policy), "variants": variants, "last": last}
        print_json(json.dumps(told, ensure_ascii=False))
    else:
        out.print(unset_policy_page(name) if policy is None else policy_page(policy, made, rows, time.time()))


@app.command("set")
@async_command
async def set_(
    file: FileArgument,
    broker: BrokerOption = None,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Have the loop decide, and not act.")] = False,
    reason: ReasonOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put a policy in force: the variants' weights, and what the loop may do with them."""
    spec = _read(file).model_copy(update={"dry_run": dry_run})
    async with open_client(broker) as poise:
        command = PolicyCommand(
            id=control.new_command_id(), action="set", spec=spec, by=control.current_user(), reason=reason
        )
        await _do(poise.mesh, spec.name, command, as_json=as_json)


@app.command()
@async_command
async def hold(
    name: NameArgument = None, broker: BrokerOption = None, *, reason: ReasonOption = None, as_json: JsonOption = False
) -> None:
    """Keep the weights as they are, whatever is found, until `release`."""
    async with open_client(broker) as poise:
        await _ask(poise.mesh, name, "hold", reason=reason, as_json=as_json)


@app.command()
@async_command
async def release(
    name: NameArgument = None, broker: BrokerOption = None, *, reason: ReasonOption = None, as_json: JsonOption = False
) -> None:
    """Let the loop move weights again."""
    async with open_client(broker) as poise:
        await _ask(poise.mesh, name, "release", reason=reason, as_json=as_json)


@app.command()
@async_command
async def revert(
    version: Annotated[
        int | None,
        typer.Argument(metavar="[VERSION]", min=1, show_default=False, help="Default: before the last change."),
    ] = None,
    name: NameOption = None,
    broker: BrokerOption = None,
    *,
    reason: ReasonOption = None,
    as_json: JsonOption = False,
) -> None:
    """Bring the weights of an earlier version back."""
    async with open_client(broker) as poise:
        if not as_json:
            await _foretell(poise.mesh, name, version)
        await _ask(poise.mesh, name, "revert", version=version, reason=reason, as_json=as_json)


async def _foretell(mesh: MeshConnection, name: str | None, version: int | None) -> None:
    name, policy = await decision_log.resolve(mesh.logs, name)
    if policy is None:
        return
    earlier = decision_log.reverted_weights(await decision_log.decisions(mesh.logs, name), version)
    if earlier is not None:
        told = f"version {policy.version} → the weights of " + (
            f"version {version}" if version else "before its last change"
        )
        out.print(Text.assemble((f"{clean(name)}  ", "bold cyan"), told))
        for line in weight_changes(policy.weights, earlier):
            out.print(Text("  ").append_text(line))


@app.command()
@async_command
async def explain(
    decision: Annotated[
        str, typer.Argument(metavar="[DECISION]", help="Such as answer-7; `latest` = the last one.")
    ] = LATEST,
    name: NameOption = None,
    broker: BrokerOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Explain one decision: what was seen, how sure that is, what was done, and what you can do."""
    async with open_client(broker) as poise:
        if decision != LATEST and name is None:
            name = decision.rpartition("-")[0] or None
        name, policy = await decision_log.resolve(poise.mesh.logs, name)
        found = _find(await decision_log.decisions(poise.mesh.logs, name), decision, name)
        ids = found.finding.runs[:RUNS] if found.finding is not None else ()
        runs = await _run_log(poise.mesh).records(ids)
    if as_json:
        told = {"decision": _plain(found), "runs": {run: _plain(record) for run, record in runs.items()}}
        print_json(json.dumps(told, ensure_ascii=False))
    else:
        out.print(decision_explanation(found, policy, runs, time.time()))


def _run_log(mesh: MeshConnection) -> RunLog:
    return RunLog(mesh.logs, mesh.settings.clock_skew)


def _find(decisions: list[Decision], wanted: str, name: str) -> Decision:
    if not decisions:
        raise PoiseError(f"nothing was ever decided about {name}: `poise policy set FILE` is the first decision")
    found = [decision for decision in decisions if wanted in {LATEST, decision.id}]
    if not found:
        raise InvalidMessageError(f"no decision {wanted} about {name}: `poise policy log {name}` lists them")
    return found[-1]


@app.command()
@async_command
async def log(
    name: NameArgument = None,
    broker: BrokerOption = None,
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with those that are made from now on.")] = False,
    last: Annotated[int, typer.Option("--last", "-n", min=1, metavar="N", help="So many at most.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """List the decisions, newest last."""
    async with open_client(broker) as poise:
        name, _ = await decision_log.resolve(poise.mesh.logs, name)
        found = 0
        async with aclosing(decision_log.follow_decisions(poise.mesh.logs, name, last=last, follow=follow)) as batches:
            async for batch in batches:
                found += len(batch)
                _list(batch, as_json=as_json)
    if not found and not as_json:
        out.print(Text(f"nothing was ever decided about {clean(name)}", "dim"))


def _list(decisions: Sequence[Decision], *, as_json: bool) -> None:
    if not as_json:
        out.print(decisions_table(decisions, time.time()))
        return
    for decision in decisions:
        print_json(decision.model_dump_json())


def _finite(plain: Any) -> Any:
    """Values for machines. JSON knows no infinity: where there is one answer, an interval has no ends."""
    if isinstance(plain, dict):
        return {name: _finite(value) for name, value in plain.items()}
    return None if isinstance(plain, float) and not math.isfinite(plain) else plain


def _plain(message: Message) -> dict[str, Any]:
    return message.model_dump(mode="json")


@app.command()
@async_command
async def replay(
    name: NameArgument = None,
    broker: BrokerOption = None,
    *,
    other: Annotated[
        Path | None,
        typer.Option(
            "--with",
            metavar="FILE",
            show_default=False,
            help="Show what would have been decided with this file, on the same answers.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make the decisions again from the logs, and compare. Exits with 1 if one differs."""
    spec = None if other is None else _read(other)
    async with open_client(broker) as poise:
        name, _ = await decision_log.resolve(poise.mesh.logs, name)
        logs = await decision_log.replay_logs(poise.mesh.logs, name)
    if spec is not None:
        made = replay_with(logs, spec)
        if not made and not as_json:
            out.print(Text("no decision can be replayed: `poise policy replay` says why", "dim"))
        _list(made, as_json=as_json)
        return
    found = replayed(logs)
    if as_json:
        kept = ("skipped", "why", "reproduced", "difference")
        told = {key: getattr(found, key) for key in kept} | {"decisions": len(logs.decisions)}
        print_json(json.dumps(told, ensure_ascii=False))
    else:
        out.print(replay_report(found, logs))
    if found.difference is not None:
        raise typer.Exit(EXIT_FAILED)


def _read(file: Path) -> PolicySpec:
    """The policy of a file; each fault on a line of its own."""
    try:
        return read(file)
    except PolicyFileError as error:
        for fault in error.faults:
            err.print(Text.assemble(("poise: ", "bold red"), clean(fault)), soft_wrap=True)
        raise typer.Exit(EXIT_INVALID) from error


async def _ask(
    mesh: MeshConnection,
    name: str | None,
    action: Literal["hold", "release", "revert"],
    *,
    version: int | None = None,
    reason: str | None,
    as_json: bool,
) -> None:
    name, _ = await decision_log.resolve(mesh.logs, name)
    asked = PolicyCommand(
        id=control.new_command_id(), action=action, version=version, by=control.current_user(), reason=reason
    )
    await _do(mesh, name, asked, as_json=as_json)


async def _do(mesh: MeshConnection, name: str, command: PolicyCommand, *, as_json: bool) -> None:
    """Ask for it, and show what was decided; what was refused ends in an error."""
    decision = await control.execute(mesh.logs, mesh.producer, name, command)
    if as_json:
        print_json(decision.model_dump_json())
    elif decision.action != "refuse":
        out.print(decision_page(decision))
    if decision.action == "refuse":
        raise PoiseError(decision.reason)
