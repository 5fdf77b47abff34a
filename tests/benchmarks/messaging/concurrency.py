"""Concurrency: handlers that take a while, 256 at once from one partition; and memory over 100,000 messages."""

from tests.benchmarks.command import Plan
from tests.benchmarks.figures import Collected, Outcome, Ratio
from tests.benchmarks.messaging.ground import OURS, POISE, Ground
from tests.benchmarks.messaging.job import Job

AT_ONCE = 256
RUNS = ((0.005, 15_000), (0.1, 5_120), (2.0, 512))
"""Seconds that a handler takes, and messages of a run."""
MEMORY = 100_000
MIB = 1024 * 1024


async def run(ground: Ground, plan: Plan) -> Outcome:
    """Ours alone: the ideal is concurrency over time."""
    found, ratios = Collected(), []
    for _ in plan.times(3):
        for pause, number in RUNS:
            rate = await once(ground, pause, number)
            found.add(f"messages/s, {pause * 1_000:.0f} ms handlers", POISE, rate)
            found.add(f"messages/s, {pause * 1_000:.0f} ms handlers", "ideal", AT_ONCE / pause)
    for pause, _ in RUNS:
        measure = f"messages/s, {pause * 1_000:.0f} ms handlers"
        ratios.append(Ratio(f"of {AT_ONCE}/{pause * 1_000:.0f} ms", found.ratio(measure, POISE, "ideal"), 0.9))
    rss = await memory(ground, plan.many(MEMORY))
    found.add("MiB after a tenth of the messages", POISE, rss[len(rss) // 10] / MIB)
    found.add("MiB after all of them", POISE, rss[-1] / MIB)
    ratios.append(
        Ratio(
            f"memory after {plan.many(MEMORY):,} messages over after a tenth",
            [rss[-1] / rss[len(rss) // 10]],
            1.05,
            at_least=False,
        )
    )
    return Outcome("concurrency", found.figures(), ratios, ["One partition. Memory with handlers that do nothing."])


async def once(ground: Ground, pause: float, number: int) -> float:
    """Messages per second, from the first handler's start to the last one's end."""
    await ground.fill(OURS, number, pause=pause, partitions=1)
    job = Job(POISE, ground.bootstrap, OURS, OURS, expect=number, work="timed", concurrency=AT_ONCE)
    async with ground.worker(job) as worker:
        report = await worker.report()
    return number / float(report["last"] - report["first"])


async def memory(ground: Ground, number: int) -> list[int]:
    """What the process held, every 5,000 messages."""
    await ground.fill(OURS, number)
    job = Job(POISE, ground.bootstrap, OURS, OURS, expect=number, concurrency=AT_ONCE)
    async with ground.worker(job) as worker:
        return list((await worker.report(within=120.0))["rss"]) or [1]
