"""Some partitions have no leader for 70 s, with the times that producers have by default; then all go on by themselves.

That is longer than the 40 s after which aiokafka gives up a batch that it could not send, which uses up its producer:
here the gateway's, both orchestration workers' and a client's, each at another moment.
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
"""Seconds after which the gateway says that it cannot write: a record is late after 5, progress missed 15 later."""
WITHIN: Final = 60.0
"""Seconds in which all are ready again."""
PLACES: Final = {**ON_NODE_2, RECORDS: (5,)}
QUESTION: Final = "How does a lighthouse warn ships at night?"
REPLACED: Final = re.compile(r"a producer is replaced after \w*(LeaderNotAvailable|Timeout)")


def needs(topic: Topic, key: str) -> bool:
    """Whether a record with that key belongs to a partition that has no leader."""
    return partition_for(key.encode(), topic.partitions) in PLACES[topic]


def conversations(topic: Topic, *, lost: bool) -> Iterator[str]:
    """Conversations whose asks need a partition that has no leader, or one that has."""
    return (name for n in itertools.count() if needs(topic, name := f"conversation-{n}") is lost)


@dataclass
class Asked:
    """One ask, and what came of it."""

    by: str
    needs: str
    """What it needs of a partition without a leader: that the ask is taken, that its record is, or nothing."""
    outcome: str = "silence"
    ended: float = 0.0

    def end(self, outcome: str) -> None:
        self.outcome, self.ended = outcome, time.monotonic()


@dataclass
class Asking:
    """Asks of every kind, and what came of them."""

    http: httpx2.AsyncClient
    poise: Poise
    history: list[Asked] = field(default_factory=list)

    async def by_http(self, conversation: str) -> None:
        """Ask the gateway."""
        asked = Asked("http", "ask" if needs(RUNS_INTERACTIVE, conversation) else "nothing")
        self.history.append(asked)
        body = {"question": QUESTION, "conversation": conversation, "cache": "no-store"}
        response = await self.http.post("/v1/ask", json=body)
        if asked.needs == "nothing" and needs(RECORDS, response.headers["poise-run"]):
            asked.needs = "record"
        if response.status_code == 200:
            asked.end("answer")
        else:
            asked.end(f"{response.status_code}, retryable {Fault.parse(response.content).retryable}")

    async def by_client(self, conversation: str) -> None:
        """Ask by Kafka, from another process than the gateway; whether its record is taken is not known here."""
        asked = Asked("kafka", "ask" if needs(ASK_INTERACTIVE, conversation) else "perhaps a record")
        self.history.append(asked)
        try:
            await self.poise.ask(QUESTION, conversation=conversation, cache="no-store")
            asked.end("answer")
        except PoiseError as error:
            fault = error.fault()
            asked.end(f"{fault.status}, retryable {fault.retryable}")

    async def ask(self, seconds: float) -> None:
        """Ask one of each kind repeatedly, and wait for the outcomes."""
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
        """What had come of the asks of a kind by some time."""
        of = (asked for asked in self.history if (asked.by, asked.needs) == (by, needs))
        return {asked.outcome for asked in of if asked.ended < until}


async def watch(http: httpx2.AsyncClient, seconds: float) -> set[str]:
    """Look at the gateway's readiness every second, from when it knows on; what it said meanwhile."""
    await asyncio.sleep(KNOWN_AFTER)
    said, until = set(), time.monotonic() + seconds - KNOWN_AFTER
    while time.monotonic() < until:
        response = await http.get("/readyz")
        missing = [error["field"] for error in response.json().get("errors", ())]
        said.add(f"{response.status_code} {' '.join(missing)}".strip())
        await asyncio.sleep(1.0)
    return said


async def all_ready(played: TwoNodeMesh) -> None:
    readiness: dict[str, bool] = {}
    try:
        async with asyncio.timeout(WITHIN):
            while not all((readiness := await played.readiness()).values()):  # noqa: ASYNC110 - other processes
                await asyncio.sleep(0.5)
    except TimeoutError as error:
        raise AssertionError(f"not ready {WITHIN:.0f} s later: {readiness}") from error


@asynccontextmanager
async def asking(played: TwoNodeMesh) -> AsyncIterator[Asking]:
    settings = MeshSettings(broker=played.bootstrap, spans=False)
    async with (
        httpx2.AsyncClient(base_url=played.gateway_url, timeout=120) as http,
        Poise(settings=settings) as poise,
    ):
        yield Asking(http, poise)


async def test_partitions_without_a_leader_for_longer_than_a_batch_is_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with started_mesh(tmp_path, 1, on_node_2=PLACES) as played, asking(played) as meanwhile:
        pids = {worker.name: worker.pid for worker in played.workers}
        async with played.without_leader():
            asks = asyncio.create_task(meanwhile.ask(AWAY_FOR))
            said = await watch(meanwhile.http, AWAY_FOR)
            back = time.monotonic()
        await asks
        told, late = "503, retryable True", "504, retryable True"
        assert meanwhile.outcomes("http", "ask", back) == meanwhile.outcomes("kafka", "ask", back) == {told}
        assert meanwhile.outcomes("http", "nothing", back) == {"answer"}
        assert meanwhile.outcomes("http", "record", back) <= {told, late}  # a record that waits holds its answer up
        assert {asked.outcome for asked in meanwhile.history} <= {told, late, "answer"}
        assert said == {"503 producer"}

        await all_ready(played)
        after = Asking(meanwhile.http, meanwhile.poise)
        await after.ask(5.0)
        assert {asked.outcome for asked in after.history} == {"answer"}
        assert {worker.name: worker.pid for worker in played.workers} == pids
        assert not played.supervisor.deaths
        await settled(played.bootstrap)
    replaced = {worker.name for worker in played.workers if REPLACED.search(worker.log.read_text())}
    assert replaced >= {"gateway-1", "orchestration-1", "orchestration-2"}
    assert any(REPLACED.match(record.getMessage()) for record in caplog.records)
