"""Workers, the gateway, the broker and Redis are killed under load: every accepted request has one outcome.

`POISE_CHAOS` sets the number of requests, `POISE_CHAOS_RATE` requests a second, `POISE_CHAOS_SEED` the kills.
"""

import asyncio
import functools
import os
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx2
import pytest
from chaos_kit import PlainTopicReader, engines, settled
from chaos_load import (
    DEADLINE,
    ChaosSupervisor,
    ChaosWorker,
    Handling,
    RecordedRequest,
    RecordingClient,
    RequestHistory,
    ask_by_http,
    ask_by_kafka,
    at_rate,
    handlings,
    load,
    longest_pause,
)

from poise.contracts.topics import REPLIES
from poise.settings import MeshSettings
from poise.stack import probe
from poise.stack.kafka import Kafka
from poise.stack.valkey import Valkey
from poise.stack.worker import Worker

REQUESTS: Final = int(os.environ.get("POISE_CHAOS", "20000"))
RATE: Final = float(os.environ.get("POISE_CHAOS_RATE", "400"))
SEED: Final = int(os.environ.get("POISE_CHAOS_SEED", "1"))
BETWEEN_KILLS: Final = (2.0, 5.0)
"""Seconds."""
BY_HTTP: Final = 10
"""One request in this number."""
RETRYABLE: Final = frozenset(f"urn:poise:{name}" for name in ("deadline-exceeded", "unavailable", "temporary"))

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900 + REQUESTS // 20)]


@dataclass
class MeshUnderLoad:
    """A mesh under load: its processes, what was killed, and the history of its requests."""

    kafka: Kafka
    valkey: Valkey
    workers: list[ChaosWorker]
    gateway: Worker
    port: int
    supervisor: ChaosSupervisor
    history: RequestHistory
    broker: list[tuple[float, float]] = field(default_factory=list)
    """When the broker stopped and when it was back, unix seconds."""
    gateway_killed: list[float] = field(default_factory=list)

    async def run_disasters(self) -> None:
        """Stop the broker, the gateway and Redis, each when a share of the requests has been sent."""
        for share, disaster in (
            *((0.2, self._kill_broker), (0.3, self._kill_gateway), (0.4, self.valkey.stop), (0.55, self.valkey.start)),
            *((0.6, self._kill_gateway), (0.7, self._restart_broker)),
        ):
            await self.history.reach(round(REQUESTS * share))
            await disaster()

    async def _kill_gateway(self) -> None:
        self.gateway_killed.append(time.time())
        self.supervisor.kill(self.gateway)

    async def _kill_broker(self) -> None:
        began = time.time()
        self.kafka.kill()
        await self.kafka.child.wait()
        await self.kafka.start()
        self.broker.append((began, time.time()))

    async def _restart_broker(self) -> None:
        began = time.time()
        await self.kafka.stop()
        await self.kafka.start()
        self.broker.append((began, time.time()))

    async def _pace_with_kafka(self, number: int) -> None:
        await self.history.reach(number * (BY_HTTP - 1))

    async def send_all(self) -> None:
        """Send the requests: two callers on Kafka, one over HTTP."""
        settings = MeshSettings(broker=self.kafka.bootstrap, spans=False)
        http = httpx2.AsyncClient(
            base_url=f"http://127.0.0.1:{self.port}",
            timeout=DEADLINE + 30,
            limits=httpx2.Limits(keepalive_expiry=1.0),  # before the gateway closes an idle connection, after 5 s
        )
        by_http = REQUESTS // BY_HTTP
        half = (REQUESTS - by_http) // 2
        async with (
            http,
            RecordingClient(settings, self.history) as one,
            RecordingClient(settings, self.history) as two,
            asyncio.TaskGroup() as group,
        ):
            ask = functools.partial(ask_by_http, http, self.gateway_killed)
            group.create_task(load(self.history, "http", by_http, self._pace_with_kafka, ask))
            for name, mesh, requests in (("one", one, half), ("two", two, REQUESTS - by_http - half)):
                pace = at_rate(RATE * half / REQUESTS)
                group.create_task(load(self.history, name, requests, pace, functools.partial(ask_by_kafka, mesh)))


@asynccontextmanager
async def mesh_under_load(directory: Path) -> AsyncIterator[MeshUnderLoad]:
    """Run two tiers with two workers each, and a gateway."""
    async with engines(directory) as (kafka, valkey):
        port = probe.free_port()
        variables = {
            "POISE_BROKER": kafka.bootstrap,
            "POISE_REDIS_URL": valkey.url,
            "POISE_GATEWAY_PORT": str(port),
            "POISE_SPANS": "false",
            "POISE_LOG_LEVEL": "WARNING",
        }
        workers = [
            ChaosWorker(
                tier, n, directory / f"{tier}-{n}", port=0, log=directory / f"{tier}{n}.log", environment=variables
            )
            for tier in ("orchestration", "inference")
            for n in (1, 2)
        ]
        log = directory / "gateway.log"
        gateway = Worker("gateway", 1, directory / "gateway", port=0, log=log, environment=variables)
        history = RequestHistory()
        async with (
            ChaosSupervisor([*workers, gateway], SEED) as supervisor,
            PlainTopicReader(kafka.bootstrap, [REPLIES.name], history.take) as reader,
        ):
            yield MeshUnderLoad(kafka, valkey, workers, gateway, port, supervisor, history)
            await supervisor.all_up()
            await settled(kafka.bootstrap)
            await reader.to_the_end()
    assert not any(worker.child.alive for worker in (*workers, gateway))


async def test_each_accepted_request_has_one_outcome(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with mesh_under_load(tmp_path) as played:
        began = time.time()
        killing = asyncio.create_task(played.supervisor.kill_regularly(played.workers, BETWEEN_KILLS))
        async with asyncio.TaskGroup() as group:
            group.create_task(played.send_all())
            group.create_task(played.run_disasters())
        killing.cancel()
        took = time.time() - began
    found = handlings(played.workers)
    with capsys.disabled():
        sys.stdout.write(report(played, found, took))
    check(played.history, found)


def check(history: RequestHistory, found: list[Handling]) -> None:
    """Assert one outcome each: an answer or a retryable fault; each answer belongs to its own request."""
    requests = list(history.requests.values())
    accepted = [request for request in requests if request.accepted]
    by_kafka = [request for request in accepted if request.correlation_id is not None]
    handled = {handling.id for handling in found if handling.topic.startswith("poise.inference")}
    assert len(requests) == REQUESTS
    assert [request for request in requests if request.outcome is None] == []
    assert {request.outcome for request in accepted} <= {"answer"} | RETRYABLE
    assert [request for request in requests if not request.right] == []
    assert [request for request in by_kafka if not _agrees(request, history.of(request))] == []
    assert [request for request in accepted if request.outcome == "answer" and request.id not in handled] == []


def _agrees(request: RecordedRequest, terminal: list[str]) -> bool:
    """Return whether there is a terminal message and the first is what the caller received, unless it timed out."""
    timed_out = request.ended - request.sent >= DEADLINE
    return bool(terminal) and (request.outcome == terminal[0] or timed_out)


def report(played: MeshUnderLoad, found: list[Handling], took: float) -> str:
    """Return the numbers of requests, kills, repetitions and pauses."""
    requests = played.history.requests.values()
    accepted = [request for request in requests if request.accepted]
    broken = sum(request.outcome == "gateway killed" for request in requests)
    handled = Counter((handling.topic, handling.id) for handling in found)
    repeated = sum(count - 1 for count in handled.values())
    extra_replies = sum(max(0, len(played.history.of(request)) - 1) for request in accepted)
    kills = [at for at, name in played.supervisor.kills if name != played.gateway.name]
    alone = [at for at in kills if not any(gone - 5 < at < back + 15 for gone, back in played.broker)]
    partition = max((longest_pause(found, at, at + 5, by_partition=True) for at in alone), default=0.0)
    tier = max((longest_pause(found, at, at + 5, by_partition=False) for at in alone), default=0.0)
    away = "; ".join(
        f"away {back - gone:.1f} s, longest pause of a partition "
        f"{longest_pause(found, gone, back + 5, by_partition=True):.1f} s"
        for gone, back in played.broker
    )
    return (
        f"\nchaos: seed {SEED}, {len(requests):,} requests in {took:.0f} s, {len(accepted):,} accepted: "
        f"{dict(Counter(request.outcome for request in accepted))}; "
        f"{len(requests) - len(accepted) - broken} not taken, "
        f"{broken} whose gateway was killed"
        f"\n  {len(kills)} kills of workers, {len(played.gateway_killed)} of the gateway; "
        f"ended by themselves: {dict(played.supervisor.deaths)}"
        f"\n  {len(found):,} handlings, {repeated:,} of them repeated; {extra_replies:,} replies after the first"
        f"\n  longest pause after a worker was killed: {partition:.1f} s of a partition, {tier:.1f} s of a topic"
        f"\n  the broker killed, then restarted: {away}\n"
    )
