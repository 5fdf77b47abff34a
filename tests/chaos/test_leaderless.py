"""Some partitions have no leader for 70 s, with the producers' default timeouts; then all workers recover.

That is longer than the 40 s after which aiokafka drops an unsent batch, and its producer must be replaced: here the
gateway's, both orchestration workers' and a client's, each at another moment.
"""

import asyncio
import itertools
import re
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx2
import pytest
from chaos_kit import settled
from two_node_mesh import ON_NODE_2, TwoNodeMesh, started_mesh

from poise.client import Poise
from poise.contracts import Fault
from poise.contracts.topics import ASK_INTERACTIVE, RECORDS, RUNS_INTERACTIVE, Topic
from poise.errors import PoiseError
from poise.kafka.partitioner import partition_for
from poise.settings import MeshSettings

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

AWAY_FOR: Final = 70.0
EVERY: Final = 1.0
"""Seconds between two asks of each kind."""
KNOWN_AFTER: Final = 25.0
"""Seconds until the gateway is not ready: a record is late after 5 s, and missing progress is reported 15 s later."""
WITHIN: Final = 60.0
"""Seconds within which all workers are ready again."""
LEADERLESS: Final = {**ON_NODE_2, RECORDS: (5,)}
QUESTION: Final = "How does a lighthouse warn ships at night?"
REPLACED: Final = re.compile(r"a producer is replaced after \w*(LeaderNotAvailable|Timeout)")


def needs(topic: Topic, key: str) -> bool:
    """Return whether a record with a key belongs to a partition without a leader."""
    return partition_for(key.encode(), topic.partitions) in LEADERLESS[topic]


def conversations(topic: Topic, *, lost: bool) -> Iterator[str]:
    """Yield conversations whose asks need a partition without a leader (`lost`) or with one."""
    return (name for n in itertools.count() if needs(topic, name := f"conversation-{n}") is lost)


@dataclass
class LeaderlessAsk:
    """One ask and its outcome."""

    by: str
    needs: str
    """What must be written to a partition without a leader: the ask, its record, or nothing."""
    outcome: str = "silence"
    ended: float = 0.0

    def end(self, outcome: str) -> None:
        self.outcome, self.ended = outcome, time.monotonic()


@dataclass
class AskLoad:
    """Asks of every kind and their outcomes."""

    http: httpx2.AsyncClient
    poise: Poise
    history: list[LeaderlessAsk] = field(default_factory=list)

    async def by_http(self, conversation: str) -> None:
        """Ask the gateway."""
        ask_outcome = LeaderlessAsk("http", "ask" if needs(RUNS_INTERACTIVE, conversation) else "nothing")
        self.history.append(ask_outcome)
        body = {"question": QUESTION, "conversation": conversation, "cache": "no-store"}
        response = await self.http.post("/v1/ask", json=body)
        if ask_outcome.needs == "nothing" and needs(RECORDS, response.headers["poise-run"]):
            ask_outcome.needs = "record"
        if response.status_code == 200:
            ask_outcome.end("answer")
        else:
            ask_outcome.end(f"{response.status_code}, retryable {Fault.parse(response.content).retryable}")

    async def by_client(self, conversation: str) -> None:
        """Ask over Kafka, not through the gateway; the partition of its record is not known here."""
        ask_outcome = LeaderlessAsk("kafka", "ask" if needs(ASK_INTERACTIVE, conversation) else "perhaps a record")
        self.history.append(ask_outcome)
        try:
            await self.poise.ask(QUESTION, conversation=conversation, cache="no-store")
            ask_outcome.end("answer")
        except PoiseError as error:
            fault = error.fault()
            ask_outcome.end(f"{fault.status}, retryable {fault.retryable}")

    async def ask(self, seconds: float) -> None:
        """Send one ask of each kind every second, and wait for the outcomes."""
        kinds = [
            (ask, conversations(topic, lost=lost))
            for ask, topic in ((self.by_http, RUNS_INTERACTIVE), (self.by_client, ASK_INTERACTIVE))
            for lost in (True, False)
        ]
        until = time.monotonic() + seconds
        async with asyncio.TaskGroup() as group:
            while time.monotonic() < until:
                for ask, names in kinds:
                    group.create_task(ask(next(names)))
                await asyncio.sleep(EVERY)

    def outcomes(self, by: str, needs: str, until: float) -> set[str]:
        """Return the outcomes until a time of the asks of a kind."""
        asks = (ask_outcome for ask_outcome in self.history if (ask_outcome.by, ask_outcome.needs) == (by, needs))
        return {ask_outcome.outcome for ask_outcome in asks if ask_outcome.ended < until}


async def poll_readiness(http: httpx2.AsyncClient, seconds: float) -> set[str]:
    """Poll the gateway's readiness every second after KNOWN_AFTER; return its distinct answers."""
    await asyncio.sleep(KNOWN_AFTER)
    answers, until = set(), time.monotonic() + seconds - KNOWN_AFTER
    while time.monotonic() < until:
        response = await http.get("/readyz")
        missing = [error["field"] for error in response.json().get("errors", ())]
        answers.add(f"{response.status_code} {' '.join(missing)}".strip())
        await asyncio.sleep(1.0)
    return answers


async def until_all_ready(played: TwoNodeMesh) -> None:
    readiness: dict[str, bool] = {}
    try:
        async with asyncio.timeout(WITHIN):
            while not all((readiness := await played.readiness()).values()):  # noqa: ASYNC110 - other processes
                await asyncio.sleep(0.5)
    except TimeoutError as error:
        raise AssertionError(f"not ready {WITHIN:.0f} s later: {readiness}") from error


@asynccontextmanager
async def ask_load(played: TwoNodeMesh) -> AsyncIterator[AskLoad]:
    settings = MeshSettings(broker=played.bootstrap, spans=False)
    async with (
        httpx2.AsyncClient(base_url=played.gateway_url, timeout=120) as http,
        Poise(settings=settings) as poise,
    ):
        yield AskLoad(http, poise)


async def test_all_workers_recover_from_partitions_without_a_leader(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with started_mesh(tmp_path, 1, on_node_2=LEADERLESS) as played, ask_load(played) as during:
        pids = {worker.name: worker.pid for worker in played.workers}
        async with played.without_leader():
            asks = asyncio.create_task(during.ask(AWAY_FOR))
            answers = await poll_readiness(during.http, AWAY_FOR)
            back = time.monotonic()
        await asks
        unavailable, late = "503, retryable True", "504, retryable True"
        assert during.outcomes("http", "ask", back) == during.outcomes("kafka", "ask", back) == {unavailable}
        assert during.outcomes("http", "nothing", back) == {"answer"}
        assert during.outcomes("http", "record", back) <= {unavailable, late}  # the answer waits for its record
        assert {ask_outcome.outcome for ask_outcome in during.history} <= {unavailable, late, "answer"}
        assert answers == {"503 producer"}

        await until_all_ready(played)
        after = AskLoad(during.http, during.poise)
        await after.ask(5.0)
        assert {ask_outcome.outcome for ask_outcome in after.history} == {"answer"}
        assert {worker.name: worker.pid for worker in played.workers} == pids
        assert not played.supervisor.deaths
        await settled(played.bootstrap)
    replaced = {worker.name for worker in played.workers if REPLACED.search(worker.log.read_text())}
    assert replaced >= {"gateway-1", "orchestration-1", "orchestration-2"}
    assert any(REPLACED.match(record.getMessage()) for record in caplog.records)
