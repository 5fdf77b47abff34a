"""No-op handling: how many messages a second one process handles, at least once, with an empty handler."""

from importlib.util import find_spec
from math import inf

from faststream import AckPolicy

from tests.benchmarks.command import MeasurementPlan
from tests.benchmarks.figures import FigureCollector, Ratio, ScenarioResult
from tests.benchmarks.messaging.environment import POISE, Environment
from tests.benchmarks.messaging.job import Job

MANY, FEW = 15_000, 1_000
"""Messages of a run; few for a policy that commits after each message."""
RATE, CPU = "messages/s", "CPU µs/message"
TRACED = "poise, spans and metrics on"
BARE, CONFLUENT = "aiokafka, bare", "confluent-kafka asyncio"
COMMITS_EACH = ("ACK", "REJECT_ON_ERROR", "NACK_ON_ERROR", "MANUAL")


async def run(environment: Environment, plan: MeasurementPlan) -> ScenarioResult:
    """Measure every contestant once in each repetition."""
    found = FigureCollector()
    names = [POISE, TRACED, BARE, *(f"FastStream {policy.name}" for policy in AckPolicy)]
    if find_spec("confluent_kafka"):  # of the extra `bench`
        names.append(CONFLUENT)
    for _ in range(plan.repetitions):
        for name in names:
            report = await once(environment, name, plan.scaled(FEW if name.endswith(COMMITS_EACH) else MANY))
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
    return ScenarioResult(
        "noop",
        found.figures(),
        ratios,
        ["Poise over each, by messages/s. No contestant records spans; their cost for Poise is in a row of its own."],
    )


def best(found: FigureCollector, others: list[str]) -> list[float]:
    """Return the ratio of Poise to the fastest of the others in each repetition."""
    return [min(ratios) for ratios in zip(*(found.ratio(RATE, POISE, other) for other in others), strict=True)]


async def once(environment: Environment, name: str, number: int) -> dict[str, float]:
    """Measure one contestant on messages written before it starts."""
    contestant = POISE if name.startswith(POISE) else name
    topic = await environment.topic(contestant)
    await environment.fill(topic, number)
    job = Job(
        contestant, environment.bootstrap, topic, topic, expect=number, skip=number // 10, telemetry=name == TRACED
    )
    async with environment.worker(job) as worker:
        return await worker.report()
