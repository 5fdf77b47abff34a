"""`poise lab`: make a part of a mesh do worse, with the loop on and off, and see who was hurt."""

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
    help="Make a part do worse, with the loop on and off: who was hurt?", no_args_is_help=True, add_completion=False
)


@app.command("list")
def list_() -> None:
    """The scenarios that come with Poise."""
    for name in scenario_names():
        out.print(Text.assemble((f"{name:<10}", "bold"), load_scenario(name).about))


@app.command()
@async_command
async def run(
    scenario: Annotated[str, typer.Argument(metavar="SCENARIO", help="A name that `poise lab list` shows, or a file.")],
    *,
    seed: Annotated[int, typer.Option(help="Of the questions' order and of who is wrong when.")] = 1,
    runs: Annotated[int, typer.Option(min=1, help="Run it with so many seeds, from --seed on.")] = 1,
    loop: Annotated[Loop, typer.Option(help="off: it decides, and does not act.")] = "both",
    asks: Annotated[
        int | None, typer.Option(min=1, show_default=False, help="How many; the trouble in proportion.")
    ] = None,
    rate: Annotated[float | None, typer.Option(min=0.1, show_default=False, help="Asks a second.")] = None,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print a table for a page.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Run a scenario on a mesh of its own: all of it is real, but for the models, which are scripted.

    Nothing that runs already is touched: the mesh is started in a folder that is deleted afterwards.
    """
    chosen = load_scenario(scenario)
    chosen = chosen if asks is None else chosen.of_asks(asks)
    try:
        questions = {number: sample_questions(chosen.asks, number) for number in range(seed, seed + runs)}
    except ValueError as error:
        raise InvalidMessageError(f"asks: {error}") from error
    reports: list[ScenarioReport] = []
    found: list[ExperimentArm] = []
    with tempfile.TemporaryDirectory(prefix="poise-lab-", ignore_cleanup_errors=True) as folder:
        with err.status("starting a mesh, and indexing a corpus …"):
            ground = await LabEnvironment(
                Path(folder), chosen, questions[seed], seed, on_event=event_printer(err)
            ).__aenter__()
        try:
            for number, some in questions.items():
                arms: list[ExperimentArm] = []
                for on in _arms(loop):
                    with err.status("") as status:
                        told = _progress(status, chosen, number, on=on)
                        arm = await run_arm(ground, some, number, loop=on, rate=rate or chosen.rate, progress=told)
                    arms.append(arm)
                found += arms
                reports.append(ScenarioReport(chosen, number, tuple(report_of(chosen, arm) for arm in arms)))
        finally:
            with err.status("stopping the mesh …"):
                await ground.__aexit__()
    if as_json:
        print_json(json.dumps([_as_json(report, found) for report in reports]))
    elif as_markdown:
        out.print(markdown(reports), soft_wrap=True, markup=False, highlight=False)
    else:
        out.print(Text(), lab_table(reports), Text(), Text(LEGEND, style="dim"), sep="\n")


def _arms(loop: Loop) -> tuple[bool, ...]:
    return {"on": (True,), "off": (False,), "both": (False, True)}[loop]


def _progress(status: Status, scenario: Scenario, seed: int, *, on: bool) -> Any:
    def told(done: int, total: int) -> None:
        status.update(f"{scenario.name}, seed {seed}, loop {'on' if on else 'off'}: {done} of {total}")

    return told


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
