"""Steady asks of four kinds of client and their outcomes: HTTP, HTTP streams, Python, raw Kafka."""

import asyncio
import itertools
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

import httpx2
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from chaos_runs import QUESTION
from two_node_mesh import ANSWERS, TwoNodeMesh

from poise.client import Poise
from poise.contracts import Fault
from poise.contracts.topics import ASK_INTERACTIVE
from poise.errors import FaultError, SetupError, TransportError

DEADLINE: Final = 30.0
"""Seconds that a caller waits for an answer or a fault."""
SLACK: Final = 10.0
"""Seconds after its deadline in which an outcome still counts, on a busy machine."""
SENT_WITHIN: Final = 45.0
"""Seconds for which a raw Kafka client tries to send a record: its default is 40."""
FORGED: Final = "FORGED"
"""Part of every forged text."""


@dataclass
class AskOutcome:
    """One ask and its outcome."""

    by: str
    sent: float
    """Unix seconds."""
    accepted_at: float | None = None
    """When the gateway began to respond or the broker acknowledged the ask, unix seconds; None = neither."""
    outcome: str | None = None
    """A rung, a fault's type, or `refused`; None = silence."""
    ended: float = 0.0
    forged: bool = False
    """Whether its caller received forged text."""

    def end(self, outcome: str, text: str = "") -> None:
        """Set the outcome; the first one counts."""
        if self.outcome is None:
            self.outcome, self.ended, self.forged = outcome, time.time(), FORGED in text

    def accept(self) -> None:
        """Mark the ask as accepted."""
        self.accepted_at = time.time()

    @property
    def accepted(self) -> bool:
        """Return whether the gateway or the broker has accepted the ask."""
        return self.accepted_at is not None

    @property
    def silent(self) -> bool:
        """Return whether it was accepted without an outcome in time; the time counts from the acceptance."""
        return self.accepted_at is not None and (
            self.outcome is None or self.ended - self.accepted_at > DEADLINE + SLACK
        )


class Replies:
    """The replies on the raw clients' topic, passed to the waiting client by correlation id."""

    def __init__(self, bootstrap: str) -> None:
        self._consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
        self._waiting: dict[bytes, asyncio.Future[tuple[str, bytes]]] = {}
        self._reading: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Start to read from the end of the topic."""
        await self._consumer.start()
        partition = TopicPartition(ANSWERS, 0)
        self._consumer.assign([partition])
        await self._consumer.seek_to_end(partition)
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop reading."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait({self._reading})
        await self._consumer.stop()

    async def _read(self) -> None:
        async for record in self._consumer:
            headers = dict(record.headers)
            waiter = self._waiting.get(headers.get("correlation_id") or b"")
            if waiter is not None and not waiter.done() and "poise-seq" not in headers:
                waiter.set_result(((headers.get("poise-kind") or b"").decode(), record.value or b""))

    async def wait(self, correlation_id: bytes, within: float) -> tuple[str, bytes]:
        """Wait for a reply; return its kind and body.

        Raises:
            TimeoutError: No reply arrived.
        """
        waiter = self._waiting[correlation_id] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(within):
                kind, body = await waiter
                return kind, body
        finally:
            del self._waiting[correlation_id]


Asking = Callable[[AskOutcome, str], Awaitable[None]]


@dataclass
class SoakLoad:
    """The callers and the history of their asks."""

    mesh: TwoNodeMesh
    http: httpx2.AsyncClient
    poise: Poise
    replies: Replies
    history: list[AskOutcome] = field(default_factory=list)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    async def run(self, rate: float) -> None:
        """Ask at a rate, each kind of client in turn, until cancelled."""
        kinds: tuple[tuple[str, Asking], ...] = (
            ("http", self._by_http),
            ("sse", self._by_stream),
            ("python", self._by_client),
            ("kafka", self._by_kafka),
        )
        began = time.monotonic()
        for number in itertools.count():
            await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
            name, ask = kinds[number % len(kinds)]
            task = asyncio.create_task(self._send(name, ask))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def finish(self) -> None:
        """Wait for the outcome of every request."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=SENT_WITHIN + DEADLINE + SLACK)

    async def _send(self, name: str, ask: Asking) -> None:
        request = AskOutcome(name, time.time())
        self.history.append(request)
        await ask(request, f"{QUESTION}-{next(self._numbers)}")

    async def _by_http(self, request: AskOutcome, question: str) -> None:
        try:
            response = await self.http.post("/v1/ask", json={"question": question})
        except httpx2.TransportError as error:
            request.end(f"not taken: {type(error).__name__}")
            return
        request.accept()
        if response.status_code == httpx2.codes.OK:
            request.end(response.json()["rung"], response.text)
        else:
            request.end(Fault.parse(response.content).type, response.text)

    async def _by_stream(self, request: AskOutcome, question: str) -> None:
        headers = {"accept": "text/event-stream"}
        seen = ""
        try:
            async with self.http.stream("POST", "/v1/ask", json={"question": question}, headers=headers) as response:
                request.accept()
                async for line in response.aiter_lines():
                    seen += line
                    event, _, data = line.partition(": ")
                    if event == "data" and '"rung"' in data and '"text"' in data:
                        request.end(json.loads(data)["rung"], seen)
                    elif event == "data" and '"urn:poise:' in data:
                        request.end(json.loads(data)["type"], seen)
                if response.status_code != httpx2.codes.OK:
                    request.end(Fault.parse(seen).type, seen)
        except httpx2.TransportError as error:
            request.end(f"interrupted: {type(error).__name__}")

    async def _by_client(self, request: AskOutcome, question: str) -> None:
        request.accept()
        try:
            answer = await self.poise.ask(question, timeout=DEADLINE)
            request.end(answer.rung, answer.text)
        except (FaultError, TransportError) as error:
            fault = error.fault()
            request.end(fault.type, fault.detail)
        except SetupError as error:
            request.end(f"not taken: {error}")

    async def _by_kafka(self, request: AskOutcome, question: str) -> None:
        correlation_id = b"soak-%d" % id(request)
        headers = [("reply_to", ANSWERS.encode()), ("correlation_id", correlation_id)]
        waiting = asyncio.create_task(self.replies.wait(correlation_id, SENT_WITHIN + DEADLINE + SLACK))
        body = json.dumps({"question": question}).encode()
        try:
            await self.mesh.plain_client.send_and_wait(ASK_INTERACTIVE.name, body, headers=headers)
            request.accept()
        except KafkaError as error:
            request.end(f"not taken: {type(error).__name__}")
            waiting.cancel()
        try:
            kind, value = await waiting
        except (TimeoutError, asyncio.CancelledError):
            return
        if kind == Fault.kind:
            request.end(Fault.parse(value).type, value.decode())
        else:
            request.end(json.loads(value)["rung"], value.decode())

    def outcomes(self, since: float, until: float) -> Counter[str]:
        """Count the outcomes of the asks that were in flight between two times, unix seconds."""
        in_flight = [ask for ask in self.history if ask.sent <= until and (ask.ended or until) >= since]
        return Counter(ask.outcome or "silence" for ask in in_flight)
