"""Command-line options of the benchmarks, and how much they measure."""

import argparse
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from tests.benchmarks.report import PAGE


@dataclass(frozen=True, slots=True)
class MeasurementPlan:
    """How many repetitions, and how much load."""

    repetitions: int = 5
    scale: float = 1.0
    """A factor for the number of messages and the seconds of load."""

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> "MeasurementPlan":
        """Return the plan that the arguments ask for."""
        return cls(1, 0.2) if arguments.quick else cls(arguments.repetitions)

    def repeat(self, most: int) -> range:
        """Return the repetitions, at most `most` if contestants need not take turns."""
        return range(min(most, self.repetitions))

    def scaled(self, number: int, *, least: int = 50) -> int:
        """Return a number of messages, multiplied by `scale`."""
        return max(least, round(number * self.scale))


def parser(description: str | None, scenarios: Iterable[str], json: Path) -> argparse.ArgumentParser:
    """Return a parser with the options of a benchmark with scenarios."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--only", action="append", choices=list(scenarios), help="this scenario; may be repeated")
    made.add_argument("--repetitions", type=int, default=5)
    made.add_argument("--quick", action="store_true", help="once, with a fifth of the load: to see that it works")
    made.add_argument("--json", type=Path, default=json, help=f"where figures go, {json} by default")
    made.add_argument("--write-docs", action="store_true", help=f"put the tables into {PAGE}")
    return made


def console_for(about: dict[str, str], packages: str, rate: str) -> Console:
    """Return a console, with the machine and a warning if it is busy printed on it."""
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(f"{about['machine']}, Python {about['python']}, load {about['load before']}; {packages}\n")
    if os.getloadavg()[0] > (os.cpu_count() or 1) / 2:
        console.print(f"[yellow]The machine is busy with something else: trust CPU µs more than {rate}.[/]\n")
    return console
