"""The scenarios: their workflows, measures and targets."""

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from tests.benchmarks.command import MeasurementPlan
from tests.benchmarks.figures import FigureCollector, Ratio, percentile
from tests.benchmarks.steps.contestants import (
    OURS,
    OURS_SYNCED,
    POSTGRES,
    POSTGRES_HASTY,
    RESTATE,
    RESTATE_HASTY,
    SQLITE,
    RunningContestant,
)
from tests.benchmarks.steps.step_timer import SIZE

SEQUENTIAL, AT_ONCE, EACH, EMPTY = 500, 32, 50, 50
"""Steps of the single workflow; concurrent workflows, and the steps of each; workflows without steps."""

PAIRS: Final = (
    (OURS_SYNCED, SQLITE),
    (OURS_SYNCED, POSTGRES),
    (OURS_SYNCED, RESTATE),
    (OURS, POSTGRES_HASTY),
    (OURS, RESTATE_HASTY),
    (OURS, POSTGRES),
    (OURS, RESTATE),
)
"""Pairs of Poise and another system: first with equal durability, last with the defaults of each."""

Sample = dict[str, float]
"""The values of a contestant in one repetition, by measure."""


@dataclass(frozen=True, slots=True)
class StepScenario:
    """A scenario."""

    about: str
    measure: Callable[[RunningContestant, MeasurementPlan], Awaitable[Sample]]
    measures: tuple[str, ...]
    aimed: tuple[str, ...]
    """The measures with a target: for a rate more is better, otherwise less is."""


def ratios(found: FigureCollector, names: Sequence[str], measures: Sequence[str]) -> list[Ratio]:
    """Return how many times faster Poise is, for each measured pair."""
    return [
        Ratio(f"{measure}: {ours} beside {other}", _faster(found, measure, ours, other), 1.0)
        for ours, other in PAIRS
        if ours in names and other in names
        for measure in measures
    ]


def _faster(found: FigureCollector, measure: str, ours: str, other: str) -> list[float]:
    if measure.endswith("/s"):
        return found.ratio(measure, ours, other)
    return found.ratio(measure, other, ours)


async def sequential(subject: RunningContestant, plan: MeasurementPlan) -> Sample:
    """Measure one workflow."""
    report = await subject.measure(1, plan.scaled(SEQUENTIAL))
    steps = len(report["took"])
    return {
        "p50 ms": percentile(report["took"], 0.5) * 1_000,
        "p99 ms": percentile(report["took"], 0.99) * 1_000,
        "CPU µs/step, worker": report["cpu"] / steps * 1e6,
        "CPU µs/step, servers": report["served"] / steps * 1e6,
    }


async def concurrent(subject: RunningContestant, plan: MeasurementPlan) -> Sample:
    """Measure concurrent workflows."""
    report = await subject.measure(AT_ONCE, plan.scaled(EACH, least=1))
    steps = len(report["took"])
    return {
        "steps/s": steps / report["wall"],
        f"p50 ms, {AT_ONCE} at once": percentile(report["took"], 0.5) * 1_000,
        f"p99 ms, {AT_ONCE} at once": percentile(report["took"], 0.99) * 1_000,
        f"CPU µs/step, worker, {AT_ONCE} at once": report["cpu"] / steps * 1e6,
        f"CPU µs/step, servers, {AT_ONCE} at once": report["served"] / steps * 1e6,
    }


async def empty(subject: RunningContestant, plan: MeasurementPlan) -> Sample:
    """Measure workflows without steps."""
    took = []
    for _ in range(plan.scaled(EMPTY, least=10)):
        began = time.perf_counter()
        await subject.measure(1, 0)
        took.append(time.perf_counter() - began)
    return {"ms, p50, a workflow without steps": percentile(took, 0.5) * 1_000}


SCENARIOS: Final = {
    "sequential": StepScenario(
        f"One workflow: {SEQUENTIAL} steps one after another that do nothing and return {SIZE} bytes; timed inside it.",
        sequential,
        ("p50 ms", "p99 ms", "CPU µs/step, worker", "CPU µs/step, servers"),
        ("p50 ms", "p99 ms"),
    ),
    "concurrent": StepScenario(
        f"{AT_ONCE} workflows at once in one worker process, {EACH} such steps each.",
        concurrent,
        (
            "steps/s",
            f"p50 ms, {AT_ONCE} at once",
            f"p99 ms, {AT_ONCE} at once",
            f"CPU µs/step, worker, {AT_ONCE} at once",
            f"CPU µs/step, servers, {AT_ONCE} at once",
        ),
        ("steps/s", f"p50 ms, {AT_ONCE} at once", f"p99 ms, {AT_ONCE} at once"),
    ),
    "empty": StepScenario(
        "A workflow without steps, from its start to its result, as its caller sees it. DBOS starts it in the same "
        "process, Restate by HTTP, Poise by Kafka. The three are not comparable, so there is no aim.",
        empty,
        ("ms, p50, a workflow without steps",),
        (),
    ),
}
"""The scenarios by name."""
