"""The replay: readers ask what readers ask (a few things often, most things seldom), while documents change."""

import asyncio
import random
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple
from uuid import uuid4

from poise.client import Poise
from poise.contracts import Document, Retrieve
from poise.kafka.record import Position
from poise.rpc.client import CallOptions
from tests.benchmarks.cache.audit import Audit, Change, Served, marked

WITHIN: Final = 60.0
"""Seconds that an answer is wanted."""
FOUND_WITHIN: Final = 250.0
"""Seconds that all documents may take until they can be found."""
UNCHANGED: Final = 0.3
"""The share of the documents that are ingested again which say what they said."""


def zipf(questions: Sequence[str], number: int, exponent: float, chance: random.Random) -> list[str]:
    """That many questions, the one of rank r with a probability that goes with 1/r**exponent."""
    ranked = chance.sample(questions, len(questions))
    weights = [1 / rank**exponent for rank in range(1, len(ranked) + 1)]
    return chance.choices(ranked, weights, k=number)


class Put(NamedTuple):
    """A document that was ingested."""

    position: Position
    change: Change | None
    """None = it says what it said."""


@dataclass
class Corpus:
    """Documents that change, and their history."""

    poise: Poise
    texts: dict[str, str]
    audit: Audit = field(default_factory=Audit)
    changes: int = 0
    again: int = 0
    """Documents that were ingested again, unchanged."""
    _numbers: dict[str, int] = field(default_factory=dict)

    async def begin(self) -> None:
        """Have all of them found."""
        await self._found([await self._put(document, change=True) for document in self.texts])

    async def go_on(self, chance: random.Random, every: float) -> None:
        """Change one after another, at random, until cancelled."""
        names = sorted(self.texts)
        while True:
            await asyncio.sleep(chance.expovariate(1 / every))
            await self.ingest(chance.choice(names), change=chance.random() > UNCHANGED)

    async def ingest(self, document: str, *, change: bool) -> None:
        """Ingest a document again, and note when it is known that it can be found."""
        await self._found([await self._put(document, change=change)])

    async def _put(self, name: str, *, change: bool) -> Put:
        self.changes, self.again = self.changes + change, self.again + (not change)
        number = self._numbers[name] = self.changes if change else self._numbers[name]
        position = await self.poise.put(name, Document(text=marked(self.texts[name], number), source=name))
        return Put(position, self.audit.change(name, number, time.time()) if change else None)

    async def _found(self, put: Sequence[Put]) -> None:
        epoch = await self.poise.epoch_of([one.position for one in put])
        await self.poise.mesh.rpc.call(
            Retrieve(query="what can be found", limit=1),
            CallOptions(
                run=uuid4().hex, step="retrieve", min_epoch=epoch.encode(), deadline=time.time() + FOUND_WITHIN
            ),
        )
        now = time.time()
        for one in put:
            if one.change is not None:
                one.change.found = now


async def read(poise: Poise, asks: Sequence[str], readers: int) -> list[Served]:
    """Have that many readers ask all of it, each one thing after another."""
    waiting, served = deque(asks), list[Served]()

    async def reader() -> None:
        while waiting:
            question, asked = waiting.popleft(), time.time()
            answer = await poise.ask(question, timeout=WITHIN)
            served.append(Served(asked, answer, (time.time() - asked) * 1_000))

    async with asyncio.TaskGroup() as tasks:
        for _ in range(readers):
            tasks.create_task(reader())
    return served
