"""`poise policy`: show, set, hold, revert and explain the policy of variants."""

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
from poise.cli.explain_view import MAX_SHOWN_RUNS, decision_explanation
from poise.cli.policy_view import (
    decision_page,
    decisions_table,
    policy_page,
    replay_report,
    spec_changes,
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
from poise.policy.variant_status import VariantStatus, variant_statuses
from poise.run_log.lookup import RunLog
from poise.worker.connection import MeshConnection

app = typer.Typer(
    help="The weights of variants: show, set, hold and revert them; explain why they moved.",
    no_args_is_help=True,
    add_completion=False,
)

LATEST: Final = "latest"
JSON_NAMES: Final = {"share": "weight", "target_share": "target"}
"""The names of `VariantStatus` fields in the JSON output, where they differ: scripts read them."""
JSON_STATES: Final = {"": "", "incident": "in trouble", "recovery": "on its way back"}
"""The states of a variant in the JSON output."""
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
    str | None, typer.Option(metavar="TEXT", show_default=False, help="The reason; it is stored with the decision.")
]
FileArgument = Annotated[
    Path, typer.Argument(metavar="FILE", help="A TOML file, such as the one that POISE_CONFIG names.")
]


@app.command()
@async_command
async def show(name: NameArgument = None, broker: BrokerOption = None, *, as_json: JsonOption = False) -> None:
    """Show the policy in force: weights, limits, each variant's recent scores, and the last decision."""
    async with open_client(broker) as poise:
        name, policy = await decision_log.resolve(poise.mesh.logs, name)
        made = await decision_log.decisions(poise.mesh.logs, name)
        scores = await _run_log(poise.mesh).recent_scores(name) if policy is not None else []
    rows = variant_statuses(policy, made, scores) if policy is not None else []
    if as_json:
        last = _plain(made[-1]) if made else None
        variants = [_variant_json(row) for row in rows]
        shown = {"name": name, "policy": policy and _plain(policy), "variants": variants, "last": last}
        print_json(json.dumps(shown, ensure_ascii=False))
    else:
        out.print(unset_policy_page(name) if policy is None else policy_page(policy, made, rows, time.time()))


@app.command("set")
@async_command
async def set_(
    file: FileArgument,
    broker: BrokerOption = None,
    *,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Put the file and its weights in force; then the loop only reports."),
    ] = False,
    reason: ReasonOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put a policy in force: the variants' weights, and the limits within which the loop may move them."""
    spec = _read(file).model_copy(update={"dry_run": dry_run})
    async with open_client(broker) as poise:
        command = PolicyCommand(
            id=control.new_command_id(), action="set", spec=spec, by=control.current_user(), reason=reason
        )
        await _execute(poise.mesh, spec.name, command, as_json=as_json)


@app.command()
@async_command
async def hold(
    name: NameArgument = None, broker: BrokerOption = None, *, reason: ReasonOption = None, as_json: JsonOption = False
) -> None:
    """Stop the loop from moving weights, until `release`."""
    async with open_client(broker) as poise:
        await _send(poise.mesh, name, "hold", reason=reason, as_json=as_json)


@app.command()
@async_command
async def release(
    name: NameArgument = None, broker: BrokerOption = None, *, reason: ReasonOption = None, as_json: JsonOption = False
) -> None:
    """Let the loop move weights again after `hold`."""
    async with open_client(broker) as poise:
        await _send(poise.mesh, name, "release", reason=reason, as_json=as_json)


@app.command()
@async_command
async def revert(
    version: Annotated[
        int | None,
        typer.Argument(
            metavar="[VERSION]",
            min=1,
            show_default=False,
            help="The version; default: the one before the last change.",
        ),
    ] = None,
    name: NameOption = None,
    broker: BrokerOption = None,
    *,
    reason: ReasonOption = None,
    as_json: JsonOption = False,
) -> None:
    """Restore the weights, limits and dry run of an earlier version."""
    async with open_client(broker) as poise:
        if not as_json:
            await _preview_revert(poise.mesh, name, version)
        await _send(poise.mesh, name, "revert", version=version, reason=reason, as_json=as_json)


async def _preview_revert(mesh: MeshConnection, name: str | None, version: int | None) -> None:
    name, policy = await decision_log.resolve(mesh.logs, name)
    if policy is None:
        return
    earlier = await decision_log.reverted_version(mesh.logs, name, version)
    if earlier is not None:
        change = f"version {policy.version} → the weights, limits and dry run of version {earlier.version}"
        out.print(Text.assemble((f"{clean(name)}  ", "bold cyan"), change))
        for line in (*weight_changes(policy.weights, earlier.weights), *spec_changes(policy.spec, earlier.spec)):
            out.print(Text("  ").append_text(line))


@app.command()
@async_command
async def explain(
    decision: Annotated[
        str,
        typer.Argument(metavar="[DECISION]", help="A decision's id, such as answer-7; `latest` = the last decision."),
    ] = LATEST,
    name: NameOption = None,
    broker: BrokerOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Explain one decision: the evidence, how sure it is, what changed, and what you can do."""
    async with open_client(broker) as poise:
        if decision != LATEST and name is None:
            name = decision.rpartition("-")[0] or None
        name, policy = await decision_log.resolve(poise.mesh.logs, name)
        found = _find(await decision_log.decisions(poise.mesh.logs, name), decision, name)
        ids = found.finding.runs[:MAX_SHOWN_RUNS] if found.finding is not None else ()
        runs = await _run_log(poise.mesh).records(ids)
    if as_json:
        explained = {"decision": _plain(found), "runs": {run: _plain(record) for run, record in runs.items()}}
        print_json(json.dumps(explained, ensure_ascii=False))
    else:
        out.print(decision_explanation(found, policy, runs, time.time()))


def _run_log(mesh: MeshConnection) -> RunLog:
    return RunLog(mesh.logs, mesh.settings.clock_skew)


def _find(decisions: list[Decision], wanted: str, name: str) -> Decision:
    if not decisions:
        raise PoiseError(f"there are no decisions about {name}: `poise policy set FILE` makes the first one")
    found = [decision for decision in decisions if wanted in {LATEST, decision.id}]
    if not found:
        raise InvalidMessageError(f"no decision {wanted} about {name}: `poise policy log {name}` lists its decisions")
    return found[-1]


@app.command()
@async_command
async def log(
    name: NameArgument = None,
    broker: BrokerOption = None,
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Keep printing new decisions.")] = False,
    last: Annotated[
        int, typer.Option("--last", "-n", min=1, metavar="N", help="The maximum number of past decisions.")
    ] = 20,
    as_json: JsonOption = False,
) -> None:
    """List decisions, newest last."""
    async with open_client(broker) as poise:
        name, _ = await decision_log.resolve(poise.mesh.logs, name)
        found = 0
        async with aclosing(decision_log.follow_decisions(poise.mesh.logs, name, last=last, follow=follow)) as batches:
            async for batch in batches:
                found += len(batch)
                _list(batch, as_json=as_json)
    if not found and not as_json:
        out.print(Text(f"there are no decisions about {clean(name)}", "dim"))


def _list(decisions: Sequence[Decision], *, as_json: bool) -> None:
    if not as_json:
        out.print(decisions_table(decisions, time.time()))
        return
    for decision in decisions:
        print_json(decision.model_dump_json())


def _variant_json(row: VariantStatus) -> Any:
    """Return a variant's status with the names of the JSON output."""
    plain = {JSON_NAMES.get(name, name): value for name, value in asdict(row).items()}
    return _finite(plain | {"state": JSON_STATES[row.state]})


def _finite(plain: Any) -> Any:
    """Replace infinities by None: JSON has no infinity, and the interval of a single answer has infinite ends."""
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
            help="Show what the policy in this file would have decided on the same answers.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Reproduce the decisions from the logs and compare them. The exit code is 1 if one differs."""
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
        fields = ("skipped", "why", "reproduced", "difference")
        report = {field: getattr(found, field) for field in fields} | {"decisions": len(logs.decisions)}
        print_json(json.dumps(report, ensure_ascii=False))
    else:
        out.print(replay_report(found, logs))
    if found.difference is not None:
        raise typer.Exit(EXIT_FAILED)


def _read(file: Path) -> PolicySpec:
    """Return the policy in a file; print each of its errors on a separate line."""
    try:
        return read(file)
    except PolicyFileError as error:
        for problem in error.problems:
            err.print(Text.assemble(("poise: ", "bold red"), clean(problem)), soft_wrap=True)
        raise typer.Exit(EXIT_INVALID) from error


async def _send(
    mesh: MeshConnection,
    name: str | None,
    action: Literal["hold", "release", "revert"],
    *,
    version: int | None = None,
    reason: str | None,
    as_json: bool,
) -> None:
    name, _ = await decision_log.resolve(mesh.logs, name)
    command = PolicyCommand(
        id=control.new_command_id(), action=action, version=version, by=control.current_user(), reason=reason
    )
    await _execute(mesh, name, command, as_json=as_json)


async def _execute(mesh: MeshConnection, name: str, command: PolicyCommand, *, as_json: bool) -> None:
    """Send a command and print the decision.

    Raises:
        PoiseError: The command was refused.
    """
    decision = await control.send_and_wait(mesh.logs, mesh.producer, name, command)
    if as_json:
        print_json(decision.model_dump_json())
    elif decision.action != "refuse":
        out.print(decision_page(decision))
    if decision.action == "refuse":
        raise PoiseError(decision.reason)
