"""Streaming: the time to the first word, and the words a second on one core."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Final

from poise.contracts import ChatMessage, Completion, Delta, Generate, Reset
from poise.contracts.topics import INFERENCE_INTERACTIVE
from poise.settings import MeshSettings
from poise.worker.runtime import WorkerRuntime
from tests.benchmarks.command import MeasurementPlan
from tests.benchmarks.figures import FigureCollector, Ratio, ScenarioResult, percentile
from tests.benchmarks.messaging.environment import Environment, paced
from tests.benchmarks.messaging.job import Job

RATE, SECONDS = 20.0, 3.0
TOKENS, STREAMS = 5_000, 8
STREAMER: Final = "poise, streaming"
FIRST: Final = "ms from the handler's first word to its reader"


async def run(environment: Environment, plan: MeasurementPlan) -> ScenarioResult:
    """Measure first words at low load, then the maximum throughput."""
    found = FigureCollector()
    topic = INFERENCE_INTERACTIVE.name
    job = Job(STREAMER, environment.bootstrap, topic, topic, expect=1 << 60)
    for _ in range(plan.repetitions):
        async with (
            environment.worker(job) as worker,
            WorkerRuntime(MeshSettings(broker=environment.bootstrap, spans=False), tier="gateway") as mesh,
        ):
            await first_words(mesh, 1.0)
            delays = await first_words(mesh, SECONDS * plan.scale)
            for label, share in (("p50", 0.5), ("p99", 0.99)):
                found.add(f"{label} {FIRST}", "poise", percentile(delays, share) * 1_000)
            await worker.ask()
            tokens = plan.scaled(TOKENS)
            async with asyncio.TaskGroup() as group:
                for _number in range(STREAMS):
                    group.create_task(words(mesh, tokens))
            report = await worker.ask()
            found.add("tokens per CPU second of the worker", "poise", tokens * STREAMS / report["spent"])
    return ScenarioResult(
        "streaming",
        found.figures(),
        [
            Ratio(f"p50 {FIRST}", found.values(f"p50 {FIRST}", "poise"), 3.0, at_least=False, unit="ms"),
            Ratio(
                "tokens per CPU second of the worker",
                found.values("tokens per CPU second of the worker", "poise"),
                20_000.0,
                unit="/s",
            ),
        ],
        [f"First words: open loop, {RATE:.0f} asks/s. Tokens: {STREAMS} streams at once, a write for each token."],
    )


async def first_words(mesh: WorkerRuntime, seconds: float) -> list[float]:
    """Return the seconds from the time in the first word, when the handler wrote it, until its arrival."""
    delays: list[float] = []

    async def one() -> None:
        begun = False
        async for event in streamed(mesh, 1):
            if not begun and isinstance(event, Delta):
                delays.append(time.time() - float(event.text.split()[0]))
                begun = True

    async with asyncio.TaskGroup() as group:
        async for _ in paced(RATE, seconds):
            group.create_task(one())
    return delays


async def words(mesh: WorkerRuntime, tokens: int) -> None:
    """Read a stream to its end."""
    async for _ in streamed(mesh, tokens):
        pass


def streamed(mesh: WorkerRuntime, tokens: int) -> AsyncIterator[Delta | Reset | Completion]:
    """Start a stream of that many tokens."""
    return mesh.rpc.stream(Generate(messages=(ChatMessage(role="user", content="x" * 900),), max_tokens=tokens))
