"""The load of the chaos test, its history, and the supervisor that kills workers."""

import asyncio
import random
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

import chaos_worker
import httpx2
from chaos_kit import Raw

from poise.contracts import Answer, Ask, Fault
from poise.contracts.topics import ASK_INTERACTIVE
from poise.errors import FaultError, SetupError, TransportError
from poise.kafka.record import Headers, Position, SendRecord
from poise.rpc.client import CallOptions
from poise.settings import MeshSettings
from poise.stack.worker import Worker
from poise.worker.connection import MeshConnection

DEADLINE: Final = 60.0
"""Seconds that a caller waits."""
AT_ONCE: Final = 400
"""Maximum number of requests in flight for one caller."""
CONVERSATIONS: Final = 100
DYING: Final = 1.0
"""Seconds in which a killed process may still accept a connection."""


# -- history ----------------------------------------------------------------------------------------------------------


@dataclass
class RecordedRequest:
    """One request, and what its caller saw."""

    id: str
    sent: float
    """Unix seconds."""
    accepted: bool = False
    """Whether the broker or the gateway accepted it."""
    correlation_id: str | None = None
    outcome: str | None = None
    """`answer`, a fault's type, or `gateway killed`; None = silence."""
    ended: float = 0.0
    right: bool = True
    """False: it got the answer to another request."""


@dataclass
class RequestHistory:
    """All requests by id, and every terminal message on `poise.replies` by correlation id, in order."""

    requests: dict[str, RecordedRequest] = field(default_factory=dict)
    terminal: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    begun: int = 0
    _reached: list[tuple[int, asyncio.Event]] = field(default_factory=list)

    def begin(self, id_: str) -> RecordedRequest:
        """Record that a request is sent now."""
        request = self.requests[id_] = RecordedRequest(id_, time.time())
        self.begun += 1
        for number, event in self._reached:
            if self.begun >= number:
                event.set()
        return request

    def of(self, request: RecordedRequest) -> list[str]:
        """Return the terminal messages for a request that was sent by Kafka."""
        return self.terminal.get(request.correlation_id or "", [])

    async def reach(self, number: int) -> None:
        """Wait until this number of requests has been sent."""
        if self.begun >= number:
            return
        event = asyncio.Event()
        self._reached.append((number, event))
        await event.wait()

    def take(self, record: Raw) -> None:
        """Record a message of `poise.replies`."""
        headers = dict(record.headers)
        id_, kind = (headers.get("correlation_id") or b"").decode(), (headers.get("poise-kind") or b"").decode()
        if "poise-seq" in headers:
            return  # an event of a stream
        if kind == Fault.kind:
            self.terminal[id_].append(Fault.parse(record.value or b"").type)
        elif kind == Answer.kind:
            self.terminal[id_].append("answer")


# -- callers ----------------------------------------------------------------------------------------------------------


def recording(send: SendRecord, history: RequestHistory) -> SendRecord:
    """Return a `send` that records which requests the broker has accepted."""

    async def send_and_note(
        topic: str, value: bytes | None, *, key: bytes | None, headers: Headers, partition: int | None = None
    ) -> Position:
        request = None
        if topic == ASK_INTERACTIVE.name:
            request = history.requests[Ask.parse(value or b"").question]
            request.correlation_id = (dict(headers)["correlation_id"] or b"").decode()
        landed = await send(topic, value, key=key, headers=headers, partition=partition)
        if request is not None:
            request.accepted = True
        return landed

    return send_and_note


class RecordingClient(MeshConnection):
    """A client that records which of its requests the broker has accepted."""

    def __init__(self, settings: MeshSettings, history: RequestHistory) -> None:
        super().__init__(settings, tier="client")
        records = self.producer.records
        records.send = recording(records.send, history)  # type: ignore[assignment, method-assign]


Asking = Callable[[RecordedRequest], Awaitable[None]]
Pace = Callable[[int], Awaitable[None]]
"""Waits until it is time for a request, by its number."""


async def ask_by_kafka(mesh: MeshConnection, request: RecordedRequest) -> None:
    """Ask on the public topic; every fifth request belongs to a conversation."""
    number = int(request.id.rpartition("-")[2])
    conversation = f"c{number % CONVERSATIONS}" if number % 5 == 0 else None
    ask = Ask(question=request.id, conversation=conversation, cache="no-store")
    try:
        answer = await mesh.rpc.call(
            ask, CallOptions(step="ask", topic=ASK_INTERACTIVE, key=conversation, deadline=request.sent + DEADLINE)
        )
        request.outcome, request.right = "answer", answer.text == request.id
    except (FaultError, TransportError) as error:
        request.outcome = error.fault().type


async def ask_by_http(http: httpx2.AsyncClient, killed: Sequence[float], request: RecordedRequest) -> None:
    """Ask the gateway; ask again if it cannot be reached, because it has not accepted the request."""
    while True:
        try:
            response = await http.post("/v1/ask", json={"question": request.id, "cache": "no-store"})
        except (httpx2.ConnectError, httpx2.ConnectTimeout):
            await asyncio.sleep(0.2)
            continue
        except httpx2.TransportError:
            if not any(at > request.sent - DYING for at in killed):
                raise
            request.outcome = "gateway killed"
            return
        request.accepted = True
        if response.status_code == 200:
            request.outcome, request.right = "answer", Answer.parse(response.content).text == request.id
        else:
            request.outcome = Fault.parse(response.content).type
        return


def at_rate(rate: float) -> Pace:
    """Return a pace of this many requests per second, however slowly they are answered."""
    began = time.monotonic()
    return lambda number: asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))


async def load(history: RequestHistory, name: str, requests: int, pace: Pace, ask: Asking) -> None:
    """Send requests at a pace, with a limited number in flight."""
    room = asyncio.Semaphore(AT_ONCE)

    async def one(id_: str) -> None:
        request = history.begin(id_)
        try:
            await ask(request)
        finally:
            request.ended = time.time()
            room.release()

    async with asyncio.TaskGroup() as group:
        for number in range(requests):
            await pace(number)
            await room.acquire()
            group.create_task(one(f"{name}-{number}"))


# -- workers, and who kills them --------------------------------------------------------------------------------------


class ChaosWorker(Worker):
    """A worker with the handlers of the chaos test."""

    @property
    def handled(self) -> Path:
        """Return the file to which the worker writes its handlings."""
        return self.directory / "handled"

    async def _command(self) -> list[str]:
        return [sys.executable, chaos_worker.__file__, self.tier, str(self.handled)]


class ChaosSupervisor:
    """Starts workers, restarts those that end, and kills them by a seeded schedule.

    Args:
        workers: The workers to start.
        seed: The seed of the intervals and the victims.
    """

    def __init__(self, workers: Sequence[Worker], seed: int) -> None:
        self.workers = workers
        self.kills: list[tuple[float, str]] = []
        """The time of each kill, unix seconds, and the worker's name."""
        self.deaths: Counter[str] = Counter()
        """How often each worker ended without having been killed."""
        self._random = random.Random(seed)
        self._killed: set[str] = set()
        self._keepers: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        await asyncio.gather(*(worker.start() for worker in self.workers))
        self._keepers = [asyncio.create_task(self._keep(worker)) for worker in self.workers]
        return self

    async def __aexit__(self, *_: object) -> None:
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        await asyncio.gather(*(worker.stop() for worker in self.workers))

    async def _keep(self, worker: Worker) -> None:
        while True:
            await worker.child.wait()
            if worker.name not in self._killed:
                self.deaths[worker.name] += 1
            self._killed.discard(worker.name)
            worker.since = None
            while worker.since is None:
                try:
                    await worker.start()
                except SetupError:  # the broker is down, or the worker was killed before it served
                    self._killed.discard(worker.name)
                    await asyncio.sleep(0.2)

    def kill(self, worker: Worker) -> None:
        """Kill a worker as an out-of-memory killer does; it is restarted."""
        if worker.child.alive:
            self._killed.add(worker.name)
            self.kills.append((time.time(), worker.name))
            worker.kill()

    async def kill_regularly(self, victims: Sequence[Worker], between: tuple[float, float]) -> None:
        """Kill a random victim every few seconds."""
        while True:
            await asyncio.sleep(self._random.uniform(*between))
            self.kill(self._random.choice(victims))

    async def kill_as_it_goes(
        self, victims: Sequence[Worker], history: RequestHistory, between: tuple[int, int]
    ) -> None:
        """Kill a random victim each time this number of further requests has been sent.

        The number of kills does not depend on the machine's speed. With kills by the clock, a slow machine would spend
        most of its time on restarts.
        """
        begun = history.begun
        while True:
            begun += self._random.randint(*between)
            await history.reach(begun)
            self.kill(self._random.choice(victims))

    async def all_up(self) -> None:
        """Wait until every worker serves."""
        while not all(worker.since is not None and worker.child.alive for worker in self.workers):  # noqa: ASYNC110
            await asyncio.sleep(0.1)


# -- what was handled -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Handling:
    """One handling of a message, recorded before it begins."""

    at: float
    topic: str
    partition: str
    id: str


def handlings(workers: Iterable[ChaosWorker]) -> list[Handling]:
    """Return every handling, oldest first."""
    found = []
    for worker in workers:
        for line in worker.handled.read_text().splitlines() if worker.handled.exists() else ():
            at, position, id_ = line.split(" ")
            topic, partition, _ = position.split("/")
            found.append(Handling(float(at), topic, partition, id_))
    return sorted(found, key=lambda handling: handling.at)


def longest_pause(found: Iterable[Handling], since: float, until: float, *, by_partition: bool) -> float:
    """Return the longest time, in seconds, without a handling in a topic or in one of its partitions.

    Only pauses that begin before `until` count, and of each only the part after `since`.
    """
    last: dict[tuple[str, str], float] = {}
    longest = 0.0
    for handling in found:
        at = handling.topic, handling.partition if by_partition else ""
        before = last.get(at)
        if before is not None and handling.at >= since and before < until:
            longest = max(longest, handling.at - max(before, since))
        last[at] = handling.at
    return longest
