"""Measures the detection delay and the false alarms of detectors: `python -m tests.benchmarks.detection`.

Of the answers of both variants 5 % are wrong; of those of the canary 15 %, from the start or after 5,000 good answers.
Poise's detectors are compared with a threshold on the mean of the last 100 answers, and with successive A/B tests, read
at their planned end or after each answer. All of them see the same answers.
"""

import argparse
import json
import multiprocessing
from collections.abc import Sequence
from itertools import product
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from poise.contracts.policy import Limits
from tests.benchmarks import command, report
from tests.benchmarks.detection.measure import (
    PATIENCE,
    RULES,
    DetectionCase,
    FalseAlarmCount,
    alarms,
    noticed,
    quartiles,
)
from tests.benchmarks.detection.scored import Steering, labels, measured
from tests.benchmarks.detection.traffic import KINDS
from tests.benchmarks.report import number

SCENARIOS: Final = ("delay", "scores", "calibration")
QUIET: Final = Limits().mean_answers_between_false_alarms
SEEDS: Final = 10
GOOD: Final = 5_000
SHARES: Final = (0.1, 0.5)
STRETCH: Final = 250_000
"""Answers of a sequence without a change."""
STRETCHES: Final = 4
LOWER: Final = 2_000
COLUMNS: Final = {
    "delay": ["steered by", "rule", "canary's share", "worse", "canary's answers until noticed", "quartiles"],
    "calibration": ["set", "traffic", "canary's share", "quiet answers", "alarms", "between", "95 % interval"],
}
Rows = list[list[str]]


def main() -> None:
    """Measure, print and write the results."""
    parser = command.parser(__doc__, SCENARIOS, Path("build/bench/detection.json"))
    arguments = parser.parse_args()
    about = report.machine(SEEDS, ())
    about["repetitions"] = f"{seeds(arguments)} seeds"
    console = Console(width=160)
    only = arguments.only or list(SCENARIOS)
    tables: dict[str, tuple[list[str], Rows]] = {}
    with multiprocessing.get_context("spawn").Pool() as pool:
        if "delay" in only:
            tables["delay"] = COLUMNS["delay"], delays(pool, [labels()], arguments)
            tables["false alarms"] = ["rule", *COLUMNS["calibration"][1:]], false_alarms(pool, arguments)
        if "scores" in only:
            tables["scores"] = COLUMNS["delay"], delays(pool, measured(), arguments)
        if "calibration" in only:
            tables["calibration"] = COLUMNS["calibration"], calibration(pool, arguments)
    show(console, tables)
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps({"about": about, "tables": tables}, indent=1))
    if arguments.write_docs:
        report.write_docs("detection", markdown(about, tables))


def seeds(arguments: argparse.Namespace) -> int:
    """Return the number of seeds."""
    return 3 if arguments.quick else SEEDS


def delays(pool: Pool, steerings: Sequence[Steering], arguments: argparse.Namespace) -> Rows:
    """Return the detection delay of each rule."""
    rows: Rows = []
    for steering, good, share, kind in product(steerings, (0, GOOD), SHARES, RULES):
        cases = [
            DetectionCase(kind, steering, share, seed, QUIET, good=good) for seed in range(1, seeds(arguments) + 1)
        ]
        low, median, high = quartiles(pool.map(noticed, cases, chunksize=1))
        when = f"after {good:,} good ones" if good else "from the start"
        rows.append([steering.name, kind, f"{share:.0%}", when, count(median), f"{count(low)} – {count(high)}"])
    return rows


def count(answers: float) -> str:
    """Format a number of answers, or `>` the limit."""
    return f"> {PATIENCE:,}" if answers >= PATIENCE else f"{answers:,.0f}"


def false_alarms(pool: Pool, arguments: argparse.Namespace) -> Rows:
    """Return the false alarms of each rule on the same answers without a change."""
    answers = STRETCH // (10 if arguments.quick else 1)
    return [
        [kind, *quiet(pool, DetectionCase(kind, labels(), share, 0, QUIET, answers=answers))[1:]]
        for share in SHARES
        for kind in RULES
    ]


def calibration(pool: Pool, arguments: argparse.Namespace) -> Rows:
    """Return the false alarms of Poise's detectors, to compare with the setting, for each kind of traffic."""
    small, large = (20_000, 30_000) if arguments.quick else (100_000, STRETCH)
    return [
        quiet(pool, DetectionCase("poise", labels(), share, 0, setting, answers=stretch, traffic=traffic))
        for setting, stretch in ((LOWER, small), (QUIET, large))
        for traffic in KINDS
        for share in (SHARES if traffic != "moving weights" else (0.0,))
    ]


def quiet(pool: Pool, case: DetectionCase) -> list[str]:
    """Return one row of the table of false alarms."""
    cases = [
        DetectionCase(
            case.kind, case.steering, case.share, seed, case.quiet, answers=case.answers, traffic=case.traffic
        )
        for seed in range(1, STRETCHES + 1)
    ]
    found = FalseAlarmCount(case.answers * len(cases), sum(pool.map(alarms, cases, chunksize=1)))
    low, high = found.interval
    between = f"{found.between:,.0f}" if found.alarms else f"> {found.answers:,}"
    share = f"{case.share:.0%}" if case.share else "5 – 95 %"
    interval = f"{low:,.0f} – {high:,.0f}" if found.alarms else f"{low:,.0f} –"
    return [f"{case.quiet:,}", case.traffic, share, f"{found.answers:,}", number(found.alarms), between, interval]


def show(console: Console, tables: dict[str, tuple[list[str], Rows]]) -> None:
    """Print all tables."""
    for name, (columns, rows) in tables.items():
        table = Table(title=name, title_justify="left", title_style="bold", box=None)
        for place, column in enumerate(columns):
            table.add_column(column, justify="left" if place < 2 else "right")
        for row in rows:
            table.add_row(*row)
        console.print(table if rows else f"[dim]{name}: nothing was measured yet[/]")
        console.print()


def markdown(about: dict[str, str], tables: dict[str, tuple[list[str], Rows]]) -> str:
    """Return the measured part of docs/PERFORMANCE.md."""
    lines = ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in about.items())]
    for name, (columns, rows) in tables.items():
        if rows:
            lines += ["", f"### {name.capitalize()}", "", f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
            lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
