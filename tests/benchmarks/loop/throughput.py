"""The throughput of one evaluation worker: `python -m tests.benchmarks.loop.throughput`.

The records are in `poise.records` of a real Kafka before the worker starts. The worker is a separate process that also
decides for the policy of the records. The rate is measured by the end offsets of `poise.scores`, from a tenth of the
scores to the last one, so that startup is excluded. The cost of a score is measured in this process, on these records.
"""

import argparse
import asyncio
import logging
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from rich.console import Console

from poise.contracts import RunRecord
from poise.contracts.policy import PolicyCommand, PolicySpec
from poise.contracts.topics import COMMANDS, RECORDS, SCORES
from poise.kafka import topic_setup
from poise.scoring import Evidence, groundedness, relevance
from poise.settings import MeshSettings
from poise.stack.kafka import Kafka
from poise_services.evaluation.run_scores import score_run
from tests.benchmarks.loop.records import records

WITHIN = 600.0
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Throughput:
    """The throughput of one worker."""

    rate: float
    """Records per second."""
    cpu: float
    """CPU seconds per second."""

    @property
    def each(self) -> float:
        """Return the CPU microseconds for a record."""
        return self.cpu / self.rate * 1e6


async def measured(number: int, *, deciding: bool) -> Throughput:
    """Fill the topic, start a worker, and follow the end offsets of the scores."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        async with Kafka(Path(directory)) as kafka:
            await topic_setup.apply(MeshSettings(broker=kafka.bootstrap))
            async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, max_batch_size=256 * 1024) as producer:
                await _fill(producer, number)
                if deciding:
                    spec = PolicySpec(name="answer", weights={"steady": 1, "cheap": 1})
                    command = PolicyCommand(id="bench", action="set", spec=spec, by="bench")
                    await producer.send_and_wait(COMMANDS.name, command.encode(), key=b"answer")
            async with AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap) as consumer:
                return await _worked(kafka.bootstrap, consumer, number)


async def _fill(producer: AIOKafkaProducer, number: int) -> None:
    sending = [
        await producer.send(RECORDS.name, record.encode(), key=record.run_id.encode()) for record in records(number)
    ]
    await asyncio.gather(*sending)


async def _worked(bootstrap: str, consumer: AIOKafkaConsumer, number: int) -> Throughput:
    env = {**os.environ, "POISE_BROKER": bootstrap, "POISE_SPANS": "false", "POISE_LOG_LEVEL": "ERROR"}
    worker = await asyncio.create_subprocess_exec(sys.executable, "-m", "poise_services.evaluation", env=env)
    try:
        began = await _at(consumer, number // 10)
        cpu = _cpu(worker.pid)
        ended = await _at(consumer, number)
        return Throughput(
            (ended[1] - began[1]) / (ended[0] - began[0]), (_cpu(worker.pid) - cpu) / (ended[0] - began[0])
        )
    finally:
        worker.terminate()
        await worker.wait()


async def _at(consumer: AIOKafkaConsumer, number: int) -> tuple[float, int]:
    """Wait for that number of scores; return the time and the number."""
    partitions = [TopicPartition(SCORES.name, one) for one in range(SCORES.partitions)]
    async with asyncio.timeout(WITHIN):
        while True:
            there = sum((await consumer.end_offsets(partitions)).values())
            if there >= number:
                return time.monotonic(), there
            await asyncio.sleep(0.1)


def _cpu(pid: int) -> float:
    """Return the CPU seconds of a process with its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def costs(some: Sequence[RunRecord]) -> dict[str, float]:
    """Return the CPU microseconds for a record, by operation."""
    bodies = [record.encode() for record in some]
    judged = [score_run(record) for record in some]  # once before, to fill the caches of texts as in a worker
    evidence = [Evidence(record.passages) for record in some]
    return {
        "read the record": _each(lambda at: RunRecord.parse(bodies[at]), len(some)),
        "passages to sentences": _each(lambda at: Evidence(some[at].passages), len(some)),
        "groundedness": _each(
            lambda at: groundedness(some[at].answer.text, evidence[at], question=some[at].question),  # type: ignore[union-attr]
            len(some),
        ),
        "relevance": _each(lambda at: relevance(some[at].answer.text, evidence[at], some[at].question), len(some)),  # type: ignore[union-attr]
        "all scores": _each(lambda at: score_run(some[at]), len(some)),
        "write the score": _each(lambda at: judged[at].encode(), len(some)),
    }


def _each(work: Callable[[int], object], number: int) -> float:
    began = resource.getrusage(resource.RUSAGE_SELF)
    for at in range(number):
        work(at)
    ended = resource.getrusage(resource.RUSAGE_SELF)
    return (ended.ru_utime + ended.ru_stime - began.ru_utime - began.ru_stime) / number * 1e6


def main() -> None:
    """Measure and print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--without-deciding", action="store_true", help="no policy is set: nothing is decided")
    arguments = parser.parse_args()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # it logs a group that is being created as an error
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(f"load before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
    for what, each in costs(records(min(2_000, arguments.records))).items():
        console.print(f"  {what:<24}{each:8.0f} µs")
    for _ in range(arguments.repetitions):
        found = asyncio.run(measured(arguments.records, deciding=not arguments.without_deciding))
        console.print(
            f"one worker: {found.rate:6.0f} records/s, {found.cpu:.0%} of a processor, {found.each:.0f} µs each"
        )


if __name__ == "__main__":
    main()
