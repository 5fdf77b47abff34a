"""Renders the lab: a row for each arm. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from rich.console import RenderableType

from poise.cli.table import Row, table
from poise_labs.lab.report import ArmReport, ScenarioReport

HEADER: Final = (
    "scenario", "seed", "loop", "noticed after", "restored after", "hurt", "fall", "false alarms", "weights moved",
    "misled", "waited p95", "rungs",
)  # fmt: skip
LEGEND: Final = (
    "hurt: requests that the degradation harmed · fall: how many fewer with the loop · noticed after: answers of the "
    "degraded variant, and seconds · restored after: from then on, the hurt share of the last 100 requests stayed "
    "within the scenario's limit · misled: got a model's wrong answer · rungs: of the answers during the degradation"
)
NONE: Final = "-"


def lab_table(reports: Sequence[ScenarioReport]) -> RenderableType:
    """Return the table."""
    return table(HEADER, [Row(cells(report, arm)) for report, arm in _rows(reports)])


def markdown(reports: Sequence[ScenarioReport]) -> str:
    """Return the same as a Markdown table."""
    lines = [HEADER, tuple("---" for _ in HEADER), *(cells(report, arm) for report, arm in _rows(reports))]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cells(report: ScenarioReport, arm: ArmReport) -> tuple[str, ...]:
    """Return the cells of a row."""
    noticed = arm.noticed
    return (
        report.scenario.name,
        str(report.seed),
        "on" if arm.loop else "off",
        f"{noticed.answers} answers, {noticed.seconds:.1f} s" if noticed else NONE,
        _restored(arm),
        f"{arm.hurt} of {arm.troubled}" if arm.troubled else NONE,
        f"{report.fall:.0%}" if arm.loop and report.fall is not None else NONE,
        str(arm.false_alarms),
        f"{arm.moved:.2f}",
        str(arm.misled),
        f"{arm.waited_95:.2f} s",
        _rungs(arm.rungs),
    )


def _restored(arm: ArmReport) -> str:
    if not arm.troubled:
        return NONE
    return "never" if arm.restored is None else f"{arm.restored:.1f} s"


def _rungs(rungs: Mapping[str, int]) -> str:
    return ", ".join(f"{rung} {count}" for rung, count in rungs.items())


def _rows(reports: Iterable[ScenarioReport]) -> list[tuple[ScenarioReport, ArmReport]]:
    return [(report, arm) for report in reports for arm in report.arms]
