"""Measures how concurrent asks spread over the workers of the inference tier, and their outcomes.

    python tests/benchmarks/spread.py [--asks 300] [--workers 3] [--timeout 280]

Starts a whole stack with the small model, asks all questions at once, and counts the spans of each worker.
"""

import argparse
import asyncio
import logging
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from poise.client import Poise
from poise.contracts import Answer
from poise.contracts.span import SpanRecord
from poise.contracts.topics import INFERENCE_INTERACTIVE, SPANS
from poise.errors import PoiseError
from poise.settings import MeshSettings
from poise.stack.options import Ports, StackOptions
from poise.stack.stack import Stack
from poise.telemetry import semconv
from poise_labs.cli.sample_corpus import corpus

SUBJECTS: Final = ("assert", "break", "continue", "del", "global", "nonlocal", "pass", "return")
SPANS_WITHIN: Final = 2.0
"""Seconds after which a worker has written its spans; it does so every 0.2."""
TAKEN: Final = semconv.process_span(INFERENCE_INTERACTIVE.name)

TimedAnswer = tuple[float, Answer | PoiseError]
"""Seconds until the answer or error, and the answer or error."""


def say(what: str, value: object) -> None:
    """Print one figure."""
    sys.stdout.write(f"{what:<44} {value}\n")
    sys.stdout.flush()


async def ask(poise: Poise, number: int, epoch: str, timeout: float) -> TimedAnswer:  # noqa: ASYNC109 - it is sent with the ask
    """Ask one question and measure its duration."""
    subject = SUBJECTS[number % len(SUBJECTS)]
    began = time.perf_counter()
    try:
        outcome: Answer | PoiseError = await poise.ask(
            f"What does the {subject} statement do, in version {number}?",
            timeout=timeout,
            min_epoch=epoch,
            cache="no-store",
        )
    except PoiseError as error:
        outcome = error
    return time.perf_counter() - began, outcome


def report(outcomes: Sequence[TimedAnswer], wall: float) -> None:
    """Print the durations, rungs and faults of the asks."""
    seconds = sorted(took for took, _ in outcomes)
    answers = [outcome for _, outcome in outcomes if isinstance(outcome, Answer)]
    faults = Counter(str(outcome)[:100] for _, outcome in outcomes if isinstance(outcome, PoiseError))
    reasons = Counter(answer.reason.split("(")[0][:100] for answer in answers if answer.reason)
    say("wall time", f"{wall:.1f} s, {len(outcomes) / wall:.2f} asks/s")
    say("an ask took, p50 / p95 / longest", " / ".join(f"{seconds[_place(seconds, q)]:.1f} s" for q in (0.5, 0.95, 1)))
    for rung, number in Counter(answer.rung for answer in answers).most_common():
        say(f"rung {rung}", number)
    for reason, number in reasons.most_common(6):
        say(f"  {number} because", reason)
    say("faults", sum(faults.values()))
    for fault, number in faults.most_common(6):
        say(f"  {number} because", fault)


def _place(ordered: Sequence[float], quantile: float) -> int:
    return min(len(ordered) - 1, int(quantile * len(ordered)))


async def shares(poise: Poise) -> Counter[tuple[str, str]]:
    """Return the number of requests by worker and outcome."""
    await asyncio.sleep(SPANS_WITHIN)
    spans = [SpanRecord.parse(record.value or b"") for record in await poise.mesh.logs.read_topic(SPANS.name)]
    return Counter((span.instance, str(span.attributes.get(semconv.OUTCOME))) for span in spans if span.name == TAKEN)


async def main(arguments: argparse.Namespace) -> None:
    """Start a stack, ask all questions, and count."""
    workers = {"gateway": 0, "orchestration": 1, "retrieval": 1, "inference": arguments.workers, "evaluation": 1}
    documents = {id_: document for id_, document in corpus().items() if id_.rpartition("/")[2] in SUBJECTS}
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        async with Stack(StackOptions(Path(folder), workers, ports=Ports(gateway=0))) as stack:
            say("stack ready after", f"{time.perf_counter() - began:.1f} s")
            async with Poise(settings=MeshSettings(broker=stack.broker)) as poise:
                epoch = (await poise.ingest(documents)).encode()
                await ask(poise, 0, epoch, arguments.timeout)
                before = await shares(poise)
                began = time.perf_counter()
                asks = (ask(poise, number, epoch, arguments.timeout) for number in range(arguments.asks))
                outcomes = await asyncio.gather(*asks)
                report(outcomes, time.perf_counter() - began)
                served = await shares(poise)
                served.subtract(before)
                for name in sorted({name for name, _ in served}):
                    own = sum(number for (other, _), number in served.items() if other == name)
                    written = served[name, "ok"]
                    say(f"taken by {name}", f"{own} ({own / max(1, served.total()):.0%}), written in time {written}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--asks", type=int, default=300)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--timeout", type=float, default=280.0)
    logging.basicConfig(level=logging.WARNING)
    asyncio.run(main(parser.parse_args()))
