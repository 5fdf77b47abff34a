"""`poise up`, `poise down`, `poise status`: the stack on this machine."""

import asyncio
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from poise.cli.console import err, out, print_json
from poise.cli.stack_view import addresses_table, event_printer, format_uptime, parts_table
from poise.errors import SetupError
from poise.settings import MeshSettings
from poise.stack.detached import StackExitedError, start_detached, stop_stack
from poise.stack.options import ExternalServices, Ports, StackOptions, parse_custom_tiers, parse_workers
from poise.stack.state import StackState, running_stack

DirectoryOption = Annotated[
    Path | None,
    typer.Option(
        "--dir",
        help="The stack's directory for data and logs. Default: POISE_STATE_DIR, else .poise.",
        show_default=False,
    ),
]


def up(
    workers: Annotated[
        str,
        typer.Option(
            help="Workers by tier: inference=3,retrieval=2; 0 = none. Default: 1 (integration: if configured)."
        ),
    ] = "",
    tier: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE.py[=N]", help="Also run N workers of a custom tier.", show_default=False),
    ] = None,
    directory: DirectoryOption = None,
    *,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Return when it is ready and leave it running.")
    ] = False,
    broker: Annotated[str | None, typer.Option(help="Use this Kafka, host:port, instead of starting one.")] = None,
    redis: Annotated[
        str | None, typer.Option(help="Use this Redis, redis://host:port/0, instead of starting one.")
    ] = None,
    model_url: Annotated[str | None, typer.Option(help="Use this OpenAI-compatible server.")] = None,
    model_name: Annotated[str | None, typer.Option(help="With --model-url: the model's name there.")] = None,
    model_key_env: Annotated[
        str | None, typer.Option(help="With --model-url: the environment variable with its API key.")
    ] = None,
    model: Annotated[Path | None, typer.Option(help="Serve this GGUF file instead of the default model.")] = None,
    port_gateway: Annotated[
        int | None, typer.Option(help="Default: 8080 if free, else any free port.", min=0, max=65535)
    ] = None,
    port_kafka: Annotated[int, typer.Option(help="0 = any free port.", min=0, max=65535)] = 0,
    port_redis: Annotated[int, typer.Option(help="0 = any free port.", min=0, max=65535)] = 0,
    port_model: Annotated[int, typer.Option(help="0 = any free port.", min=0, max=65535)] = 0,
    detached: Annotated[bool, typer.Option("--detached", hidden=True)] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Verify the checksum of every cached file.")] = False,
) -> None:
    """Start the stack on this machine and supervise it; Ctrl-C or `poise down` stops it."""
    options = StackOptions(
        directory=_directory(directory),
        workers=parse_workers(workers),
        custom_tiers=parse_custom_tiers(tier or ()),
        ports=Ports(kafka=port_kafka, redis=port_redis, model=port_model, gateway=port_gateway),
        external=ExternalServices(broker, redis, model_url, model_name, model_key_env),
        model=model,
        verify=verify,
    )
    if detach:
        _detach(options)
    else:
        _run_in_foreground(options, detached=detached)


def down(directory: DirectoryOption = None) -> None:
    """Stop the stack on this machine; its data stays."""
    folder = _directory(directory)
    state = running_stack(folder)
    if state is None:
        err.print(f"No stack runs in {folder}.")
        return
    err.print("Stopping …")
    stop_stack(state, folder)
    err.print("Stopped.")


def status(
    directory: DirectoryOption = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.")] = False,
) -> None:
    """Show what runs, where, and since when. The exit code is 1 if no stack runs."""
    folder = _directory(directory)
    state = running_stack(folder)
    if state is None:
        raise SetupError(f"no stack runs in {folder}: `poise up` starts one")
    if as_json:
        print_json(state.model_dump_json(indent=2))
        return
    how = "running" if state.ready else "starting"
    out.print(f"{how} in {folder} for {format_uptime(time.time() - state.since)}, supervised by process {state.pid}\n")
    out.print(parts_table(state))
    out.print(f"\nlogs: {folder / 'logs'}", soft_wrap=True)


def _directory(given: Path | None) -> Path:
    return given if given is not None else MeshSettings.load().state_dir


def _run_in_foreground(options: StackOptions, *, detached: bool) -> None:
    from poise.stack.foreground import run_until_signal  # noqa: PLC0415
    from poise.stack.stack import Stack  # noqa: PLC0415 - slow to import; `poise status` does not need it

    began = time.monotonic()
    stack = Stack(options, on_event=event_printer(err))

    def ready() -> None:
        if not detached:  # else the command that started this process prints it
            _say_ready(stack.state(), time.monotonic() - began, "Ctrl-C stops it")

    err.print(f"Starting in {options.directory} …")
    asyncio.run(run_until_signal(stack, ready=ready, stopping=lambda: err.print("Stopping …")))
    err.print("Stopped.")


def _detach(options: StackOptions) -> None:
    began = time.monotonic()
    try:
        state = start_detached(options, on_output=sys.stderr.write)
    except StackExitedError as error:  # its output says why
        raise typer.Exit(error.returncode) from error
    _say_ready(state, time.monotonic() - began, "`poise down` stops it")


def _say_ready(state: StackState, seconds: float, stops: str) -> None:
    out.print(f"\n[bold green]Ready[/] in {seconds:.1f} s; {stops}, `poise status` shows it.\n")
    out.print(addresses_table(state))
    out.print('\nTry: poise ask "…", or poise ingest PATH first.')
