"""Shared by the retrieval tests: a worker whose embedder can be inspected and paused, and a client."""

import asyncio
import time
import zlib
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from uuid import uuid4

import numpy as np

from poise.contracts import Deletion, Document, Envelope, Epoch, Passages, Retrieve
from poise.contracts.topics import DOCUMENTS, PASSAGES
from poise.kafka.record import Position, Record
from poise.rpc.client import CallOptions
from poise.worker.context import Context
from poise.worker.runtime import WorkerRuntime
from poise_services.retrieval.live_index import LiveIndex
from poise_services.retrieval.publishing import PassagePublisher


class RandomEmbedder:
    """An embedder with random vectors, seeded by the text: equal texts have equal vectors."""

    model = "random"

    def __init__(self) -> None:
        self.embedded_texts: list[str] = []
        self.started = asyncio.Event()
        self.resumed = asyncio.Event()
        self.resumed.set()
        self.queries_enabled = asyncio.Event()
        self.queries_enabled.set()

    async def embed_query(self, text: str) -> np.ndarray:
        await self.queries_enabled.wait()
        return self.vector(text)

    def vector(self, text: str) -> np.ndarray:
        """Return the vector of a text."""
        vector = np.random.default_rng(zlib.crc32(text.encode())).normal(size=384).astype(np.float32)
        return vector / np.linalg.norm(vector)

    async def embed_texts(self, texts: Sequence[str]) -> list[np.ndarray]:
        self.started.set()
        await self.resumed.wait()
        self.embedded_texts += texts
        return [self.vector(text) for text in texts]


@dataclass
class RetrievalWorker:
    mesh: WorkerRuntime
    live_index: LiveIndex
    embedder: RandomEmbedder = field(default_factory=RandomEmbedder)

    def __post_init__(self) -> None:
        self.publisher = PassagePublisher(self.embedder, self.live_index)

    async def handle_document(self, key: str, text: str, position: Position) -> None:
        """Handle a document as if the consumer group had delivered it."""
        document = Document(text=text, source=f"{key}.txt")
        await self.publisher.publish(document, self._context(key, position))

    async def handle_deletion(self, key: str, position: Position) -> None:
        """Handle a deletion in the same way."""
        await self.publisher.delete(Deletion(), self._context(key, position))

    def _context(self, key: str, position: Position) -> Context:
        record = Record(position.topic, position.partition, position.offset, time.time(), key.encode(), None)
        return context_of(self.mesh, record)


def context_of(mesh: WorkerRuntime, record: Record) -> Context:
    """Return the context in which a worker handles a record."""
    return Context(
        record,
        Envelope(),
        "run",
        "step",
        "tenant",
        float("inf"),
        1,
        "interactive",
        rpc=mesh.rpc,
        producer=mesh.producer,
        redis=mesh.redis,
    )


StartWorker = Callable[..., AbstractAsyncContextManager[RetrievalWorker]]


@dataclass
class RetrievalClient:
    """Publishes documents, and searches."""

    mesh: WorkerRuntime

    async def put(self, key: str, text: str | None, partition: int | None = None) -> Position:
        document = None if text is None else Document(text=text, source=f"{key}.txt")
        return await self.mesh.producer.publish(DOCUMENTS, document, key=key, partition=partition)

    async def epoch_at(self, position: Position) -> str:
        topic_id = await self.mesh.logs.topic_id(DOCUMENTS.name)
        return Epoch(topic_id, {position.partition: (position.offset, 0.0)}).encode()

    async def search(self, query: str, after: Position, max_wait: float = 20.0) -> Passages:
        return await self.mesh.rpc.call(
            Retrieve(query=query, limit=50),
            CallOptions(
                run=uuid4().hex, step="retrieve", deadline=time.time() + max_wait, min_epoch=await self.epoch_at(after)
            ),
        )

    async def passage_records(self, key: str) -> list[Record]:
        """Return the records of a document in `poise.passages`, oldest first."""
        records = await self.mesh.logs.read_topic(PASSAGES.name)
        return [record for record in records if (record.key or b"").startswith(f"{key}#".encode())]
