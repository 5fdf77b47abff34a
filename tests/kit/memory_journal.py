"""In-memory journals, and a call context with random delays, for tests of restarted runs."""

import asyncio
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from uuid import uuid4

from poise.contracts import Message, Request
from poise.contracts.fault import Fault
from poise.contracts.message import ReplyT
from poise.contracts.topics import Lane, Topic
from poise.errors import FaultError
from poise.kafka.record import Position
from poise.redis.journal import Journal, JournalEntry
from poise.rpc.client import CallOptions
from poise.worker.context import RpcCaller
from poise.workflows.run import Run

ROUNDS = 60
"""Maximum event loop iterations of a call."""


class Done(Message):
    kind = "done/1"
    number: int


class Do(Request[Done]):
    kind = "do/1"
    reply = Done
    tier = "doing"
    number: int
    fails: bool = False


@dataclass
class StoredJournal:
    """The stored journal of one run, as Redis would hold it."""

    owner: str | None = None
    entries: dict[str, JournalEntry] = field(default_factory=dict)


class CrashingJournal(Journal):
    """A journal in memory that fails after a number of writes, as if the worker crashed."""

    def __init__(self, stored: StoredJournal, chance: random.Random, *, crash_after: int | None = None) -> None:
        self._stored = stored
        self._chance = chance
        self._owner_token = uuid4().hex
        self.writes = 0
        self.crash_after = crash_after
        self.crashed = False
        self.crash: Callable[[], object] = lambda: None

    async def open(self) -> Mapping[str, JournalEntry] | None:
        self._stored.owner = self._owner_token
        entries = list(self._stored.entries.items())
        self._chance.shuffle(entries)  # a Redis hash has no order
        return dict(entries)

    async def write(self, step: str, entry: JournalEntry) -> bool:
        assert not self.crashed, f"{step} was written after the run was interrupted"
        if self._stored.owner != self._owner_token:
            return False
        self._stored.entries[step] = entry
        self.writes += 1
        if self.writes == self.crash_after:
            self.crashed = True
            self.crash()
        for _ in range(self._chance.randrange(4)):
            await asyncio.sleep(0)
        return True


@dataclass
class RandomCallContext:
    """Answers `Do` with its number or a fault, after a random delay."""

    chance: random.Random
    run: str = "5d1c8c1c-0e9a-5a52-8f5b-0f6d8e3a2b11"
    step: str = "ask"
    tenant: str = "acme"
    lane: Lane = "interactive"
    stream_writer: None = None
    min_epoch: str | None = None
    written: float = 0.0
    deadline: float = math.inf
    left: float = 100.0
    called: list[str] = field(default_factory=list)
    published: list[Message | None] = field(default_factory=list)

    def remaining(self) -> float:
        return self.left

    @property
    def rpc(self) -> RpcCaller:
        return self

    async def call(self, request: Request[ReplyT], options: CallOptions) -> ReplyT:
        assert isinstance(request, Do)
        assert options.step is not None
        assert options.deadline is not None
        self.called.append(options.step)
        for _ in range(self.chance.randrange(ROUNDS)):
            await asyncio.sleep(0)
        if request.fails:
            fault = Fault(type="urn:poise:failed", title="F", status=500, detail=f"{request.number}", retryable=False)
            raise FaultError(fault)
        return Done(number=request.number)  # type: ignore[return-value]  # the reply to Do

    async def publish(self, topic: Topic, message: Message | None, *, key: str | None) -> Position:  # noqa: ARG002
        self.published.append(message)
        return Position(topic.name, 0, len(self.published))


def run_with(
    stored: StoredJournal | None, seed: int = 0, *, crash_after: int | None = None
) -> tuple[Run, RandomCallContext]:
    """Return a run, which replays the stored entries if any, and its context."""
    chance = random.Random(seed)
    context = RandomCallContext(chance)
    journal = None if stored is None else CrashingJournal(stored, chance, crash_after=crash_after)
    return Run(context, journal, "workflow w version 1"), context
