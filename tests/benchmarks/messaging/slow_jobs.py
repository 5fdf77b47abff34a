"""Slow jobs: the latency of fast messages when one message in ten takes two seconds."""

import asyncio
import time
from collections.abc import Sequence
from typing import Final

from tests.benchmarks.command import MeasurementPlan
from tests.benchmarks.figures import FigureCollector, Ratio, ScenarioResult, percentile
from tests.benchmarks.messaging.environment import POISE, Environment, send_paced
from tests.benchmarks.messaging.job import Job

RATE, SECONDS, SLOW, PARTITIONS = 100.0, 5.0, 2.0, 6
FASTSTREAM: Final = "FastStream ACK_FIRST"
NONE_SLOW: Final = (0.0,)
ONE_IN_TEN: Final = (*(0.0,) * 9, SLOW)
LOAD: Final = f"Open loop, {RATE:.0f}/s over {PARTITIONS} partitions."
BOUND: Final = (
    "FastStream's figure with slow ones is a lower bound: what it had not come to half a second after the load ended "
    "counts as waited until then."
)
P99: Final = "p99 ms of the fast"


async def run(environment: Environment, plan: MeasurementPlan) -> ScenarioResult:
    """Measure each contestant without slow messages, then with them, in one worker."""
    found = FigureCollector()
    for _ in range(plan.repetitions):
        for name in (FASTSTREAM, POISE):
            topic = await environment.topic(name, PARTITIONS)
            job = Job(name, environment.bootstrap, topic, topic, expect=1 << 60, work="timed")
            async with environment.worker(job) as worker:
                await load(environment, topic, 1.0, NONE_SLOW)  # warms up
                await worker.ask()
                for pauses, label in ((NONE_SLOW, "without slow ones"), (ONE_IN_TEN, "with slow ones")):
                    sent = await load(environment, topic, SECONDS * plan.scale, pauses)
                    await asyncio.sleep(0.5)
                    now, report = time.time(), await worker.ask()
                    latencies = of_the_fast(report["latencies"], sent, now)
                    for text, share in (("p50 ms of the fast", 0.5), (P99, 0.99)):
                        found.add(text, f"{name}, {label}", percentile(latencies, share) * 1_000)
    with_slow, without = "with slow ones", "without slow ones"
    return ScenarioResult(
        "slow_jobs",
        found.figures(),
        [
            Ratio(
                "p99 of the fast with slow ones over without",
                found.ratio(P99, f"{POISE}, {with_slow}", f"{POISE}, {without}"),
                1.3,
                at_least=False,
            ),
            Ratio(
                "FastStream's own p99, with over without (for comparison)",
                found.ratio(P99, f"{FASTSTREAM}, {with_slow}", f"{FASTSTREAM}, {without}"),
                float("inf"),
                at_least=False,
            ),
        ],
        [LOAD, BOUND],
    )


async def load(
    environment: Environment, topic: str, seconds: float, pauses: Sequence[float]
) -> list[tuple[float, float]]:
    """Send the messages open-loop."""
    return await send_paced(environment, topic, rate=RATE, seconds=seconds, pauses=pauses, partitions=PARTITIONS)


def of_the_fast(handled: Sequence[tuple[float, float]], sent: Sequence[tuple[float, float]], now: float) -> list[float]:
    """Return the latency of each fast message; an unhandled one has waited at least until `now`."""
    latencies = [latency for latency, pause in handled if pause == 0]
    fast = [scheduled for scheduled, pause in sent if pause == 0]
    return latencies + [now - scheduled for scheduled in fast[len(latencies) :]]
