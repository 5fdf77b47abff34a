"""Scale-out: workers of 100 ms handlers are added to a tier; each should add as much as the first."""

import asyncio
from contextlib import AsyncExitStack

from tests.benchmarks.command import Plan
from tests.benchmarks.figures import Collected, Outcome, Ratio
from tests.benchmarks.messaging.ground import OURS, POISE, Ground
from tests.benchmarks.messaging.job import Job

SIZES = (1, 2, 4, 8)
AT_ONCE, PAUSE, SECONDS = 16, 0.1, 2.0
SETTLED = 1.0
"""Seconds in which a group shares out its partitions anew: members hear of it by a heartbeat, once a second."""


async def run(ground: Ground, plan: Plan) -> Outcome:
    """One worker, then two, four, eight."""
    found = Collected()
    job = Job(POISE, ground.bootstrap, OURS, OURS, expect=1 << 60, work="timed", concurrency=AT_ONCE)
    for _ in plan.times(3):
        async with AsyncExitStack() as stack:
            workers = [await stack.enter_async_context(ground.worker(job))]
            for size in SIZES:
                starting = (stack.enter_async_context(ground.worker(job)) for _ in range(size - len(workers)))
                workers += [await one for one in starting]
                await asyncio.sleep(SETTLED + 0.5 * size)
                number = round(AT_ONCE / PAUSE * size * SECONDS)
                for worker in workers:
                    await worker.ask()
                await ground.fill(OURS, number, pause=PAUSE)
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
    return Outcome(
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
