"""The latency of the interactive lane during a backlog of a million messages in the batch lane."""

import asyncio
from typing import Any, Final

from poise.contracts.topics import RETRIEVAL_BATCH
from tests.benchmarks.command import MeasurementPlan
from tests.benchmarks.figures import FigureCollector, Ratio, ScenarioResult, percentile
from tests.benchmarks.messaging.environment import OURS, PARTITIONS, POISE, Environment, send_paced
from tests.benchmarks.messaging.job import Job, headers, request

BACKLOG: Final = 1_000_000
BULK: Final = 0.001
"""Handling time of each of them in seconds."""
RATE, SECONDS = 100.0, 5.0
ALONE, BESIDE = f"{POISE}, alone", f"{POISE}, with the backlog"
P99: Final = "p99 ms of interactive requests"
WITHIN: Final = 6 * 3_600.0


async def run(environment: Environment, plan: MeasurementPlan) -> ScenarioResult:
    """Measure the interactive lane of one worker without a backlog, then with one that outlasts the measurement."""
    found, bulk = FigureCollector(), 0
    for label in (ALONE, BESIDE):
        if label == BESIDE:
            await fill(environment, plan.scaled(BACKLOG))
        for _ in range(plan.repetitions):
            job = Job(POISE, environment.bootstrap, OURS, OURS, expect=1 << 60, work="timed")
            async with environment.worker(job) as worker:
                await send_paced(
                    environment, OURS, rate=RATE, seconds=1.0, pauses=(0.0,), partitions=PARTITIONS
                )  # warms up
                await worker.ask()
                await send_paced(
                    environment, OURS, rate=RATE, seconds=SECONDS * plan.scale, pauses=(0.0,), partitions=PARTITIONS
                )
                await asyncio.sleep(0.5)
                handled = (await worker.ask())["latencies"]
            waited = [latency for latency, pause in handled if pause == 0]
            bulk += len(handled) - len(waited)
            for text, share in (("p50 ms of interactive requests", 0.5), (P99, 0.99)):
                found.add(text, label, percentile(waited, share) * 1_000)
    load = (
        f"Open loop, {RATE:.0f}/s in the interactive lane. {plan.scaled(BACKLOG):,} messages of {BULK * 1_000:.0f} ms "
        f"stand in the batch lane of the same worker; {bulk:,} of them were handled meanwhile."
    )
    over = found.ratio(P99, BESIDE, ALONE)
    ratios = [Ratio("p99 of interactive requests, with a batch backlog over without", over, 1.3, at_least=False)]
    return ScenarioResult("lanes", found.figures(), ratios, [load])


async def fill(environment: Environment, number: int) -> None:
    """Write a backlog to the batch lane."""
    body = request(BULK).encode()
    sent: list[asyncio.Future[Any]] = []
    for index in range(number):
        sent.append(
            await environment.producer.send(
                RETRIEVAL_BATCH.name,
                body,
                headers=headers(index, within=WITHIN),
                partition=index % RETRIEVAL_BATCH.partitions,
            )
        )
        if len(sent) == 2_000:
            await asyncio.gather(*sent)
            sent.clear()
    await asyncio.gather(*sent)
