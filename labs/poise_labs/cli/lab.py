"""`poise lab`: degrade a variant, with the loop on and off, and count the affected requests."""

import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.status import Status
from rich.text import Text

from poise.cli.connect import JsonOption
from poise.cli.console import err, out, print_json
from poise.cli.errors import async_command
from poise.cli.stack_view import event_printer
from poise.errors import InvalidMessageError
from poise_labs.cli.lab_view import LEGEND, lab_table, markdown
from poise_labs.lab import (
    ExperimentArm,
    LabEnvironment,
    Scenario,
    ScenarioReport,
    load_scenario,
    report_of,
    run_arm,
    sample_questions,
    scenario_names,
)

Loop = Literal["on", "off", "both"]

app = typer.Typer(
    help="Degrade a variant with the loop on and off, and compare.", no_args_is_help=True, add_completion=False
)


@app.command("list")
def list_() -> None:
    """List the built-in scenarios."""
    for name in scenario_names():
        out.print(Text.assemble((f"{name:<10}", "bold"), load_scenario(name).about))


@app.command()
@async_command
async def run(
    scenario: Annotated[str, typer.Argument(metavar="SCENARIO", help="A name from `poise lab list`, or a TOML file.")],
    *,
    seed: Annotated[int, typer.Option(help="The seed of the questions and of the scripted answers.")] = 1,
    runs: Annotated[int, typer.Option(min=1, help="Repeat it with this many seeds, starting with --seed.")] = 1,
    loop: Annotated[Loop, typer.Option(help="off: decisions are recorded, not acted on.")] = "both",
    asks: Annotated[
        int | None,
        typer.Option(min=1, show_default=False, help="The number of asks; the degradation is scaled with it."),
    ] = None,
    rate: Annotated[float | None, typer.Option(min=0.1, show_default=False, help="Asks per second.")] = None,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print a Markdown table.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Run a scenario on a temporary mesh with scripted models; all other parts are real.

    A running stack is not affected: the mesh runs in a temporary directory.
    """
    chosen = load_scenario(scenario)
    chosen = chosen if asks is None else chosen.of_asks(asks)
    try:
        questions = {number: sample_questions(chosen.asks, number) for number in range(seed, seed + runs)}
    except ValueError as error:
        raise InvalidMessageError(f"asks: {error}") from error
    reports: list[ScenarioReport] = []
    all_arms: list[ExperimentArm] = []
    with tempfile.TemporaryDirectory(prefix="poise-lab-", ignore_cleanup_errors=True) as folder:
        with err.status("starting a mesh, and indexing a corpus …"):
            environment = await LabEnvironment(
                Path(folder), chosen, questions[seed], seed, on_event=event_printer(err)
            ).__aenter__()
        try:
            for number, some in questions.items():
                arms: list[ExperimentArm] = []
                for on in _arms(loop):
                    with err.status("") as status:
                        on_progress = _progress(status, chosen, number, on=on)
                        arm = await run_arm(
                            environment, some, number, loop=on, rate=rate or chosen.rate, progress=on_progress
                        )
                    arms.append(arm)
                all_arms += arms
                reports.append(ScenarioReport(chosen, number, tuple(report_of(chosen, arm) for arm in arms)))
        finally:
            with err.status("stopping the mesh …"):
                await environment.__aexit__()
    if as_json:
        print_json(json.dumps([_as_json(report, all_arms) for report in reports]))
    elif as_markdown:
        out.print(markdown(reports), soft_wrap=True, markup=False, highlight=False)
    else:
        out.print(Text(), lab_table(reports), Text(), Text(LEGEND, style="dim"), sep="\n")


def _arms(loop: Loop) -> tuple[bool, ...]:
    return {"on": (True,), "off": (False,), "both": (False, True)}[loop]


def _progress(status: Status, scenario: Scenario, seed: int, *, on: bool) -> Any:
    def update(done: int, total: int) -> None:
        status.update(f"{scenario.name}, seed {seed}, loop {'on' if on else 'off'}: {done} of {total}")

    return update


def _as_json(report: ScenarioReport, arms: list[ExperimentArm]) -> dict[str, Any]:
    return {
        "scenario": report.scenario.model_dump(mode="json", exclude_none=True),
        "seed": report.seed,
        "fall": report.fall,
        "arms": [asdict(arm) for arm in report.arms],
        "decisions": [
            {"loop": arm.loop, "written": written, **decision.model_dump(mode="json", exclude_none=True)}
            for arm in arms
            if arm.seed == report.seed
            for written, decision in arm.decisions
        ],
    }
