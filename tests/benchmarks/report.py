"""Reports of results: tables and plots on the screen, JSON, and Markdown for docs/PERFORMANCE.md."""

import json
import math
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from tests.benchmarks.figures import Figure, Ratio, ScenarioResult

PAGE: Final = Path("docs/PERFORMANCE.md")
WIDTH: Final = 40
MOST_PLOTS: Final = 8
"""The most measures of a scenario that are plotted; more are shown as a table."""


def machine(repetitions: int, packages: Sequence[str]) -> dict[str, str]:
    """Return date, machine and load, and the versions of those packages that are installed."""
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text().splitlines() if cpu.exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if "model name" in line), "")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3
    return {
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{model or platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()}",
        "load before": f"{os.getloadavg()[0]:.1f}",
        "python": platform.python_version(),
        "packages": ", ".join(f"{name} {version(name)}" for name in packages if find_spec(name.replace("-", "_"))),
        "repetitions": str(repetitions),
    }


def number(value: float) -> str:
    """Format a number with three significant digits."""
    if math.isinf(value):
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def spread(values: Sequence[float]) -> str:
    """Format the minimum and the maximum."""
    return f"{number(min(values))} – {number(max(values))}"


def aim(ratio: Ratio) -> str:
    """Format the target of a ratio."""
    if math.isinf(ratio.aim):
        return "none"
    return f"{'≥' if ratio.at_least else '≤'} {number(ratio.aim)} {ratio.unit}"


def verdict(ratio: Ratio) -> str:
    """Return `met` or `behind`, or nothing without a target."""
    return "" if math.isinf(ratio.aim) else "met" if ratio.met else "behind"


def show(console: Console, outcome: ScenarioResult) -> None:
    """Print the ratios and figures of one scenario, with a bar for each figure."""
    ratios = Table(title=f"{outcome.scenario}", title_justify="left", title_style="bold", box=None)
    for column in ("ratio", "measured", "least – most", "aim", ""):
        ratios.add_column(column, justify="left" if column == "ratio" else "right")
    for ratio in outcome.ratios:
        style = {"met": "green", "behind": "red"}.get(verdict(ratio), "dim")
        measured = f"{number(ratio.median)} {ratio.unit}"
        ratios.add_row(ratio.what, measured, spread(ratio.values), aim(ratio), f"[{style}]{verdict(ratio)}[/]")
    console.print(ratios if outcome.ratios else f"[bold italic]{outcome.scenario}[/]")
    measures = list(dict.fromkeys(figure.measure for figure in outcome.figures))
    if len(measures) > MOST_PLOTS:
        console.print(grid(outcome.figures))
    for measure in measures if len(measures) <= MOST_PLOTS else ():
        console.print(f"  [dim]{measure}[/]")
        for line in bars([figure for figure in outcome.figures if figure.measure == measure]):
            console.print(line, markup=False, highlight=False)
    for note in outcome.notes:
        console.print(f"  [dim]{note}[/]")
    console.print()


def grid(figures: Sequence[Figure]) -> Table:
    """Return a table with a row for each measure and a column for each contestant."""
    found = {(figure.measure, figure.contestant): number(figure.median) for figure in figures}
    contestants = list(dict.fromkeys(figure.contestant for figure in figures))
    table = Table("", *contestants, box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    for measure in dict.fromkeys(figure.measure for figure in figures):
        table.add_row(measure, *(found.get((measure, contestant), "") for contestant in contestants))
    return table


def bars(figures: Sequence[Figure]) -> list[str]:
    """Return the lines of a bar chart of one measure, with a bar for each contestant."""
    most = max(figure.median for figure in figures) or 1.0
    name = max(len(figure.contestant) for figure in figures)
    return [
        f"    {figure.contestant:<{name}}  {'█' * max(1, round(figure.median / most * WIDTH)):<{WIDTH}}  "
        f"{number(figure.median):>9}  ({spread(figure.values)})"
        for figure in figures
    ]


def write_json(path: Path, about: dict[str, str], outcomes: Sequence[ScenarioResult]) -> None:
    """Write the values of all repetitions to a JSON file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"about": about, "outcomes": [asdict(outcome) for outcome in outcomes]}, indent=1))


def markdown(about: dict[str, str], outcomes: Sequence[ScenarioResult], *, level: int = 2) -> str:
    """Return the measured part of docs/PERFORMANCE.md, with headings of that level."""
    heading = "#" * level
    lines = ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in about.items()), ""]
    lines += [
        f"{heading} Aims",
        "",
        "| scenario | ratio | measured | least – most | aim | |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {outcome.scenario} | {ratio.what} | {number(ratio.median)} {ratio.unit} | {spread(ratio.values)} "
        f"| {aim(ratio)} | {verdict(ratio)} |"
        for outcome in outcomes
        for ratio in outcome.ratios
    ]
    for outcome in outcomes:
        lines += ["", f"{heading} {outcome.scenario}", "", *(f"{note}\n" for note in outcome.notes)]
        if outcome.figures:
            lines += ["| measure | contestant | median | least – most |", "|---|---|---|---|"]
        lines += [
            f"| {figure.measure} | {figure.contestant} | {number(figure.median)} | {spread(figure.values)} |"
            for figure in outcome.figures
        ]
    return "\n".join(lines)


def write_docs(name: str, text: str) -> None:
    """Write a text between the markers of that name in docs/PERFORMANCE.md."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, _, rest = PAGE.read_text().partition(begin)
    _, _, after = rest.partition(end)
    PAGE.write_text(f"{before}{begin}\n{text}\n{end}{after}")
