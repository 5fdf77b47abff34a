"""Runs under chaos: real workers of three tiers, and a model server that counts its requests."""

import json
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Final

import counting_model
import httpx2
from chaos_kit import PlainTopicReader, Raw, engines, settled
from chaos_load import ChaosSupervisor, Pace, RecordedRequest, RecordingClient, RequestHistory, load

from poise.client import Poise
from poise.contracts import Ask, Generate, RunRecord
from poise.contracts.topics import ASK_INTERACTIVE, INFERENCE_INTERACTIVE, RECORDS, REPLIES
from poise.errors import FaultError, TransportError
from poise.rpc.client import CallOptions
from poise.settings import MeshSettings
from poise.stack import probe
from poise.stack.kafka import Kafka
from poise.stack.managed_process import ManagedProcess
from poise.stack.valkey import Valkey
from poise.stack.worker import Worker
from poise.worker.connection import MeshConnection

DEADLINE: Final = 290.0
"""Seconds that a caller waits: longer than any series of kills delays it."""
QUESTION: Final = "How does a lighthouse warn ships at night? item"
CORPUS: Final = {
    "lighthouse": "A lighthouse warns ships at night with a light that turns.\n\nIts keeper winds the clockwork.",
    "harbour": "A harbour has a wall against the sea.\n\nBoats are repaired there in winter.",
    "tide": "The tide comes twice a day.\n\nThe moon draws the water.",
}
LEASE: Final = 3.0
"""Seconds until the leases of a dead worker expire."""


class CountingModel(ManagedProcess):
    """The process of the model server in `counting_model`."""

    start_timeout: ClassVar[float] = 30.0
    stop_grace: ClassVar[float] = 0.0

    def __init__(self, directory: Path) -> None:
        super().__init__("model", "the model server", directory)

    async def _command(self) -> list[str]:
        return [sys.executable, counting_model.__file__, str(self.port)]

    async def _answers(self) -> object:
        return await probe.http_status(f"http://{self.address}/paid") == 200

    async def paid(self) -> Mapping[str, Counter[str]]:
        """Return how often each question was `begun` and `ended`."""
        async with httpx2.AsyncClient() as http:
            response = await http.get(f"http://{self.address}/paid")
            return {what: Counter(found) for what, found in response.json().items()}


@dataclass
class RunsUnderChaos:
    """Runs under chaos: the processes, the requests and their outcomes."""

    kafka: Kafka
    valkey: Valkey
    model: CountingModel
    supervisor: ChaosSupervisor
    history: RequestHistory = field(default_factory=RequestHistory)
    records: Counter[str] = field(default_factory=Counter)
    """Number of run records, by question."""
    asked: Counter[str] = field(default_factory=Counter)
    """Number of requests to inference, by question: a replayed run repeats those whose result it lacks."""
    rungs: Counter[str] = field(default_factory=Counter)
    took: float = 0.0
    """Seconds that all runs took."""
    paid: Mapping[str, Counter[str]] = field(default_factory=dict)

    def of(self, tier: str) -> list[Worker]:
        """Return the workers of a tier."""
        return [worker for worker in self.supervisor.workers if worker.tier == tier]

    async def ask_all(self, runs: int, pace: Pace) -> None:
        """Ask this number of different questions on the public topic."""
        began = time.monotonic()
        settings = MeshSettings(broker=self.kafka.bootstrap, spans=False)
        async with RecordingClient(settings, self.history) as mesh:
            await load(self.history, QUESTION, runs, pace, lambda request: self._ask(mesh, request))
        self.took = time.monotonic() - began
        self.paid = await self.model.paid()

    async def _ask(self, mesh: MeshConnection, request: RecordedRequest) -> None:
        ask = Ask(question=request.id, cache="no-store")
        try:
            answer = await mesh.rpc.call(
                ask, CallOptions(step="ask", topic=ASK_INTERACTIVE, deadline=request.sent + DEADLINE)
            )
            request.outcome = "answer"
            self.rungs[answer.rung] += 1
        except (FaultError, TransportError) as error:
            request.outcome = error.fault().type

    def take(self, record: Raw) -> None:
        """Record a reply, a request to inference, or a run record."""
        if record.topic == INFERENCE_INTERACTIVE.name:
            self.asked[Generate.parse(record.value or b"").messages[-1].content] += 1
        elif record.topic == RECORDS.name:
            self.records[RunRecord.parse(record.value or b"").question] += 1
        else:
            self.history.take(record)

    def report(self, title: str) -> str:
        """Return a summary in numbers."""
        requests = self.history.requests.values()
        kills = Counter(name.rpartition("-")[0] for _, name in self.supervisor.kills)
        took = sorted(request.ended - request.sent for request in requests)
        replies = sum(max(0, len(self.history.of(request)) - 1) for request in requests)
        outcomes = dict(Counter(request.outcome for request in requests))
        return (
            f"\n{title}: {len(took):,} runs in {self.took:.0f} s, {len(took) / self.took:.0f}/s: {outcomes}, "
            f"{dict(self.rungs)}"
            f"\n  killed: {dict(kills)}; ended by themselves: {dict(self.supervisor.deaths)}"
            f"\n  inference steps asked for: {self.asked.total():,}, {again(self.asked)} of them again"
            f"\n  begun at the model: {self.paid['begun'].total():,}, {again(self.paid['begun'])} of them "
            f"again; answered to the end: {self.paid['ended'].total():,}, {again(self.paid['ended'])} of them again"
            f"\n  answers: p50 {took[len(took) // 2]:.2f} s, p99 {took[len(took) * 99 // 100]:.1f} s, slowest "
            f"{took[-1]:.1f} s; {replies} replies and {again(self.records)} records after the first of their run\n"
        )


def again(counted: Counter[str]) -> int:
    """Return the number of repetitions: all occurrences after the first of each."""
    return sum(count - 1 for count in counted.values())


def cache_log_lines(runs: RunsUnderChaos) -> list[str]:
    """Return the workers' log lines about the cache, to tell why a step was paid again."""
    return [
        f"{worker.name}: {line.strip()}"
        for worker in runs.supervisor.workers
        for line in worker.log.read_text().splitlines()
        if "the cache" in line
    ]


@asynccontextmanager
async def workers_under_chaos(directory: Path, workers: Mapping[str, int], seed: int) -> AsyncIterator[RunsUnderChaos]:
    """Run a broker, a cache, a model, and the given workers of each tier, with a corpus."""
    async with engines(directory) as (kafka, valkey), CountingModel(directory / "model") as model:
        variables = {
            "POISE_BROKER": kafka.bootstrap,
            "POISE_REDIS_URL": valkey.url,
            "POISE_LEASE_TTL": str(LEASE),
            "POISE_SPANS": "false",
            "POISE_LOG_LEVEL": "WARNING",
            "POISE_INFERENCE_BACKENDS": json.dumps(
                {"default": {"url": f"http://{model.address}", "model": "counting", "concurrency": 32}}
            ),
        }
        started = [
            Worker(tier, n, directory / f"{tier}-{n}", port=0, log=directory / f"{tier}-{n}.log", environment=variables)
            for tier, number in workers.items()
            for n in range(1, number + 1)
        ]
        async with AsyncExitStack() as stack:
            supervisor = await stack.enter_async_context(ChaosSupervisor(started, seed))
            played = RunsUnderChaos(kafka, valkey, model, supervisor)
            reading = PlainTopicReader(
                kafka.bootstrap, [INFERENCE_INTERACTIVE.name, RECORDS.name, REPLIES.name], played.take
            )
            reader = await stack.enter_async_context(reading)
            async with Poise(kafka.bootstrap) as poise:
                epoch = await poise.ingest(CORPUS)
                await poise.ask("How does a lighthouse warn ships?", min_epoch=epoch, timeout=60)
            yield played
            await supervisor.all_up()
            await settled(kafka.bootstrap)
            await reader.to_the_end()
