"""No-op handling: how many messages one process handles that have nothing to do but be handled, at least once."""

from importlib.util import find_spec
from math import inf

from faststream import AckPolicy

from tests.benchmarks.command import Plan
from tests.benchmarks.figures import Collected, Outcome, Ratio
from tests.benchmarks.messaging.ground import POISE, Ground
from tests.benchmarks.messaging.job import Job

MANY, FEW = 15_000, 1_000
"""Messages a run; few for a policy that commits each one."""
RATE, CPU = "messages/s", "CPU µs/message"
TRACED = "poise, spans and metrics on"
BARE, CONFLUENT = "aiokafka, bare", "confluent-kafka asyncio"
COMMITS_EACH = ("ACK", "REJECT_ON_ERROR", "NACK_ON_ERROR", "MANUAL")


async def run(ground: Ground, plan: Plan) -> Outcome:
    """Every contestant once in each repetition."""
    found = Collected()
    names = [POISE, TRACED, BARE, *(f"FastStream {policy.name}" for policy in AckPolicy)]
    if find_spec("confluent_kafka"):  # of the extra `bench`
        names.append(CONFLUENT)
    for _ in range(plan.repetitions):
        for name in names:
            report = await once(ground, name, plan.many(FEW if name.endswith(COMMITS_EACH) else MANY))
            found.add(RATE, name, report["rate"])
            found.add(CPU, name, report["cpu"] * 1e6)
    policies = [name for name in names if name.startswith("FastStream")]
    at_least_once = [name for name in policies if name.endswith(COMMITS_EACH)]
    ratios = [
        Ratio("FastStream's fastest policy", best(found, policies), 1.0),
        Ratio("FastStream's fastest at-least-once policy", best(found, at_least_once), 10.0),
        Ratio("bare aiokafka", found.ratio(RATE, POISE, BARE), 0.5),
        Ratio("bare aiokafka, by CPU time", found.ratio(CPU, BARE, POISE), 0.5),
    ]
    if CONFLUENT in names:
        ratios.append(Ratio("confluent-kafka's asyncio client", found.ratio(RATE, POISE, CONFLUENT), inf))
    return Outcome(
        "noop",
        found.figures(),
        ratios,
        ["Ours over each, by messages/s. No contestant traces; what spans and metrics cost ours stands beside it."],
    )


def best(found: Collected, others: list[str]) -> list[float]:
    """Ours over the fastest of the others, by repetition."""
    return [min(ratios) for ratios in zip(*(found.ratio(RATE, POISE, other) for other in others), strict=True)]


async def once(ground: Ground, name: str, number: int) -> dict[str, float]:
    """One contestant over messages that wait for it."""
    contestant = POISE if name.startswith(POISE) else name
    topic = await ground.topic(contestant)
    await ground.fill(topic, number)
    job = Job(contestant, ground.bootstrap, topic, topic, expect=number, skip=number // 10, telemetry=name == TRACED)
    async with ground.worker(job) as worker:
        return await worker.report()
