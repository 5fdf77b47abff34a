"""Concurrency: the throughput of 256 slow handlers on one partition, and the memory over 100,000 messages."""

from tests.benchmarks.command import MeasurementPlan
from tests.benchmarks.figures import FigureCollector, Ratio, ScenarioResult
from tests.benchmarks.messaging.environment import OURS, POISE, Environment
from tests.benchmarks.messaging.job import Job

AT_ONCE = 256
RUNS = ((0.005, 15_000), (0.1, 5_120), (2.0, 512))
"""Handling time in seconds, and the number of messages of a run."""
MEMORY = 100_000
MIB = 1024 * 1024


async def run(environment: Environment, plan: MeasurementPlan) -> ScenarioResult:
    """Measure Poise alone, against the ideal of concurrency divided by handling time."""
    found, ratios = FigureCollector(), []
    for _ in plan.repeat(3):
        for pause, number in RUNS:
            rate = await once(environment, pause, number)
            found.add(f"messages/s, {pause * 1_000:.0f} ms handlers", POISE, rate)
            found.add(f"messages/s, {pause * 1_000:.0f} ms handlers", "ideal", AT_ONCE / pause)
    for pause, _ in RUNS:
        measure = f"messages/s, {pause * 1_000:.0f} ms handlers"
        ratios.append(Ratio(f"of {AT_ONCE}/{pause * 1_000:.0f} ms", found.ratio(measure, POISE, "ideal"), 0.9))
    rss = await memory(environment, plan.scaled(MEMORY))
    found.add("MiB after a tenth of the messages", POISE, rss[len(rss) // 10] / MIB)
    found.add("MiB after all of them", POISE, rss[-1] / MIB)
    ratios.append(
        Ratio(
            f"memory after {plan.scaled(MEMORY):,} messages over after a tenth",
            [rss[-1] / rss[len(rss) // 10]],
            1.05,
            at_least=False,
        )
    )
    return ScenarioResult(
        "concurrency", found.figures(), ratios, ["One partition. Memory with handlers that do nothing."]
    )


async def once(environment: Environment, pause: float, number: int) -> float:
    """Return messages per second, from the start of the first handler to the end of the last one."""
    await environment.fill(OURS, number, pause=pause, partitions=1)
    job = Job(POISE, environment.bootstrap, OURS, OURS, expect=number, work="timed", concurrency=AT_ONCE)
    async with environment.worker(job) as worker:
        report = await worker.report()
    return number / float(report["last"] - report["first"])


async def memory(environment: Environment, number: int) -> list[int]:
    """Return the resident memory of the process after every 5,000 messages."""
    await environment.fill(OURS, number)
    job = Job(POISE, environment.bootstrap, OURS, OURS, expect=number, concurrency=AT_ONCE)
    async with environment.worker(job) as worker:
        return list((await worker.report(within=120.0))["rss"]) or [1]
