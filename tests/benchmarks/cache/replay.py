"""The replay: readers ask questions with frequencies by Zipf while documents change."""

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
"""The timeout of an ask in seconds."""
FOUND_WITHIN: Final = 250.0
"""The timeout in seconds until retrieval finds all documents."""
UNCHANGED: Final = 0.3
"""The share of the documents ingested again that are unchanged."""


def zipf(questions: Sequence[str], number: int, exponent: float, chance: random.Random) -> list[str]:
    """Draw that many questions; the probability of the one of rank r is proportional to 1/r**exponent."""
    ranked = chance.sample(questions, len(questions))
    weights = [1 / rank**exponent for rank in range(1, len(ranked) + 1)]
    return chance.choices(ranked, weights, k=number)


class IngestedDocument(NamedTuple):
    """An ingested document."""

    position: Position
    change: Change | None
    """None = the content is unchanged."""


@dataclass
class Corpus:
    """Documents that change, and the history of their changes."""

    poise: Poise
    texts: dict[str, str]
    audit: Audit = field(default_factory=Audit)
    changes: int = 0
    again: int = 0
    """Number of documents ingested again unchanged."""
    _numbers: dict[str, int] = field(default_factory=dict)

    async def ingest_all(self) -> None:
        """Ingest all documents and wait until retrieval finds them."""
        await self._wait_until_found([await self._put(document, change=True) for document in self.texts])

    async def change_at_random(self, chance: random.Random, every: float) -> None:
        """Change one document after another, at random, until cancelled."""
        names = sorted(self.texts)
        while True:
            await asyncio.sleep(chance.expovariate(1 / every))
            await self.ingest(chance.choice(names), change=chance.random() > UNCHANGED)

    async def ingest(self, document: str, *, change: bool) -> None:
        """Ingest a document again and record when retrieval finds it."""
        await self._wait_until_found([await self._put(document, change=change)])

    async def _put(self, name: str, *, change: bool) -> IngestedDocument:
        self.changes, self.again = self.changes + change, self.again + (not change)
        number = self._numbers[name] = self.changes if change else self._numbers[name]
        position = await self.poise.put(name, Document(text=marked(self.texts[name], number), source=name))
        return IngestedDocument(position, self.audit.change(name, number, time.time()) if change else None)

    async def _wait_until_found(self, put: Sequence[IngestedDocument]) -> None:
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
    """Let that many readers ask all questions, each one after another."""
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
