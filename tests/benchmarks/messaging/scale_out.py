"""Scale-out: the throughput of 1, 2, 4 and 8 workers of one tier with handlers of 100 ms."""

import asyncio
from contextlib import AsyncExitStack

from tests.benchmarks.command import MeasurementPlan
from tests.benchmarks.figures import FigureCollector, Ratio, ScenarioResult
from tests.benchmarks.messaging.environment import OURS, POISE, Environment
from tests.benchmarks.messaging.job import Job

SIZES = (1, 2, 4, 8)
AT_ONCE, PAUSE, SECONDS = 16, 0.1, 2.0
SETTLED = 1.0
"""Seconds that a group needs to rebalance: members are notified by their heartbeats, one a second."""


async def run(environment: Environment, plan: MeasurementPlan) -> ScenarioResult:
    """Measure one worker, then two, four, eight."""
    found = FigureCollector()
    job = Job(POISE, environment.bootstrap, OURS, OURS, expect=1 << 60, work="timed", concurrency=AT_ONCE)
    for _ in plan.repeat(3):
        async with AsyncExitStack() as stack:
            workers = [await stack.enter_async_context(environment.worker(job))]
            for size in SIZES:
                starting = (stack.enter_async_context(environment.worker(job)) for _ in range(size - len(workers)))
                workers += [await one for one in starting]
                await asyncio.sleep(SETTLED + 0.5 * size)
                number = round(AT_ONCE / PAUSE * size * SECONDS)
                for worker in workers:
                    await worker.ask()
                await environment.fill(OURS, number, pause=PAUSE)
                handled, first, last = 0, float("inf"), 0.0
                async with asyncio.timeout(60):
                    while handled < number:
                        await asyncio.sleep(0.2)
                        for report in [await worker.ask() for worker in workers]:
                            if report["handled"]:
                                handled += report["handled"]
                                first = min(first, report["first"])
                                last = max(last, *report["ends"])
                found.add("messages/s", f"{size} workers", handled / (last - first))
    return ScenarioResult(
        "scale_out",
        found.figures(),
        [
            Ratio(
                f"{size} workers over {size} × one",
                [r / size for r in found.ratio("messages/s", f"{size} workers", "1 workers")],
                0.95,
            )
            for size in SIZES[1:]
        ],
        [f"{AT_ONCE} messages at once in each worker, {PAUSE * 1_000:.0f} ms each, 8 partitions."],
    )
