"""Measures the startup of a stack: `python tests/benchmarks/startup.py [--runs 5] [--workers inference=3]`.

Each run is a separate process that starts and stops the whole embedded stack. All runs use one folder, so all but the
first are warm. The clock starts before Python does. `cpu` is the CPU time of a part until the stack was ready: on two
cores, half the sum of that column is the lower limit of the startup time.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

TICKS = os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Run the benchmark and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--workers", default="")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        asyncio.run(start_once(arguments.child, arguments.workers))
        return
    with tempfile.TemporaryDirectory() as directory:
        console = Console()
        console.print(f"load before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        runs = []
        for number in range(arguments.runs + 1):
            runs.append(measure(Path(directory), arguments.workers))
            what = "new folder" if number == 0 else f"warm {number}"
            console.print(f"{what:<10}  ready after {runs[-1]['ready'][0]:5.2f} s")
        console.print(table(runs[1:]))


def measure(directory: Path, workers: str) -> dict[str, tuple[float, float | None]]:
    """Start and stop a stack once.

    Returns:
        By part: seconds until it was ready, and its CPU seconds when all parts were ready.
    """
    began = time.time()
    command = [sys.executable, __file__, "--child", str(directory), "--workers", workers]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    lines: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    return {line["part"]: (line["at"] - began, line.get("cpu")) for line in lines}


async def start_once(directory: Path, workers: str) -> None:
    """Start a stack, print when each part was ready as JSON lines, and stop it."""
    from poise.stack.events import StackEvent  # noqa: PLC0415 - part of the measured startup
    from poise.stack.options import Ports, StackOptions, parse_workers  # noqa: PLC0415 - part of the measured startup
    from poise.stack.stack import Stack  # noqa: PLC0415 - part of the measured startup

    served: dict[str, float] = {"imports": time.time()}

    def tell(event: StackEvent) -> None:
        if event.state == "ready":
            served[event.part] = time.time()
        else:
            sys.stderr.write(event.text + "\n")

    options = StackOptions(directory, parse_workers(workers), Ports(gateway=0))
    async with Stack(options, on_event=tell) as stack:
        ready = time.time()
        used = {part.name: cpu(part.pid) for part in stack.state().parts if part.pid}
        used["ready"] = cpu(os.getpid())
    for part, at in {**served, "ready": ready}.items():
        sys.stdout.write(json.dumps({"part": part, "at": at, "cpu": used.get(part)}) + "\n")


def cpu(pid: int) -> float | None:
    """Return the CPU seconds of a process; None without `/proc`."""
    stat = Path(f"/proc/{pid}/stat")
    if not stat.exists():
        return None
    fields = stat.read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def table(runs: list[dict[str, tuple[float, float | None]]]) -> Table:
    """Return a table of median and spread by part, in the order of readiness."""
    collected: dict[str, list[tuple[float, float | None]]] = defaultdict(list)
    for run in runs:
        for part, figures in run.items():
            collected[part].append(figures)
    shown = Table(title=f"seconds from the start, {len(runs)} warm runs", title_justify="left", box=None)
    for column in ("serves", "median", "min", "max", "cpu"):
        shown.add_column(column, justify="left" if column == "serves" else "right")
    for part, measured in sorted(collected.items(), key=lambda item: statistics.median(at for at, _ in item[1])):
        times, used = [at for at, _ in measured], [spent for _, spent in measured if spent is not None]
        name = {"ready": "[bold]the whole stack[/]", "imports": "(Python has its modules)"}.get(part, part)
        spread = [f"{figure:.2f}" for figure in (statistics.median(times), min(times), max(times))]
        shown.add_row(name, *spread, f"{statistics.median(used):.2f}" if used else "")
    total = sum(statistics.median([run[part][1] or 0 for run in runs]) for part in runs[0])
    shown.add_section()
    shown.add_row("all of it", "", "", "", f"{total:.2f}")
    return shown


if __name__ == "__main__":
    main()
