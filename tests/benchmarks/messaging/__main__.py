"""The speed of the messaging layer, as ratios to named baselines: `python -m tests.benchmarks.messaging [--only echo]`.

Everything runs on one embedded Kafka, started for the benchmark and deleted afterwards. Contestants take turns, so that
other load on the machine affects all of them.
"""

import asyncio
import logging
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from rich.console import Console

from poise.kafka import topic_setup
from poise.settings import MeshSettings
from poise.stack.kafka import Kafka
from tests.benchmarks import command, report
from tests.benchmarks.command import MeasurementPlan
from tests.benchmarks.figures import ScenarioResult
from tests.benchmarks.messaging import concurrency, echo, lanes, noop, scale_out, slow_jobs, stages, streaming
from tests.benchmarks.messaging.environment import OURS, PARTITIONS, Environment

SCENARIOS: Final[dict[str, Callable[[Environment, MeasurementPlan], Awaitable[ScenarioResult]]]] = {
    "echo": echo.run,
    "noop": noop.run,
    "stages": stages.run,
    "slow_jobs": slow_jobs.run,
    "concurrency": concurrency.run,
    "streaming": streaming.run,
    "scale_out": scale_out.run,
    "lanes": lanes.run,  # last, because its backlog stays
}
JSON: Final = Path("build/bench/messaging.json")
PACKAGES: Final = ("aiokafka", "faststream", "confluent-kafka", "pydantic")


def main() -> None:
    """Measure, print and write the results."""
    arguments = command.parser(__doc__, SCENARIOS, JSON).parse_args()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # it logs a group that is being created as an error
    plan = MeasurementPlan.of(arguments)
    about, began = report.machine(plan.repetitions, PACKAGES), time.monotonic()
    console = command.console_for(about, about["packages"], "messages/s")
    outcomes = asyncio.run(measured(arguments.only or list(SCENARIOS), plan, console))
    report.write_json(arguments.json, about, outcomes)
    console.print(f"{time.monotonic() - began:.0f} s; every repetition is in {arguments.json}")
    if arguments.write_docs:
        report.write_docs("measured", report.markdown(about, outcomes))
        console.print(f"{report.PAGE} is written")


async def measured(names: list[str], plan: MeasurementPlan, console: Console) -> list[ScenarioResult]:
    """Run the scenarios in one environment."""
    outcomes: list[ScenarioResult] = []
    with tempfile.TemporaryDirectory() as directory:
        async with Kafka(Path(directory)) as kafka:
            admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
            producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, max_batch_size=128 * 1024)
            await admin.start()
            try:
                await admin.create_topics([NewTopic(OURS, PARTITIONS, 1)])  # as many as scale-out has workers
                await topic_setup.apply(MeshSettings(broker=kafka.bootstrap))
                async with producer:
                    environment = Environment(kafka.bootstrap, producer, admin)
                    for name in names:
                        outcomes.append(await SCENARIOS[name](environment, plan))
                        report.show(console, outcomes[-1])
            finally:
                await admin.close()
    return outcomes


if __name__ == "__main__":
    main()
