"""Publishes documents and waits until a search can find them."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, Literal, Protocol

from poise.contracts.document import Document
from poise.contracts.epoch import Epoch
from poise.errors import TerminalError
from poise.ingestion.document_files import RejectedDocument
from poise.ingestion.indexing_watcher import Indexed, IndexingStalledError, IndexingWatcher
from poise.ingestion.published_documents import PublishedDocument, document_digest, find_published
from poise.kafka.record import Position
from poise.worker.connection import MeshConnection

IDLE_TIMEOUT: Final = 120.0
"""Seconds without any activity in the index after which waiting ends."""

MAX_IN_FLIGHT: Final = 32
"""Documents published concurrently."""

IngestStatus = Literal["new", "changed", "unchanged"]
IngestStage = Literal["publish", "index"]
OnProgress = Callable[[IngestStage, int, int], None]
"""Called with the stage, the number of documents done (0 when the stage starts) and their total."""


class DocumentClient(Protocol):
    """The part of `poise.Poise` that ingestion uses."""

    @property
    def mesh(self) -> MeshConnection:
        """The connection."""

    async def put(self, id_: str, document: Document) -> Position:
        """Publish one document, and return its position."""

    async def epoch_of(self, positions: Iterable[Position]) -> Epoch:
        """Return the epoch of an index that has these documents."""


@dataclass(slots=True)
class IngestResult:
    """The outcome of an ingestion."""

    documents: dict[str, tuple[IngestStatus, Position]] = field(default_factory=dict)
    """What is, or will be, in the index: by document id, its status and its position in `poise.documents`."""
    indexed: int = 0
    passages: int = 0
    rejected: list[RejectedDocument] = field(default_factory=list)
    """Documents that are not in the index, and will not be."""
    pending: list[str] = field(default_factory=list)
    """Documents that were published, but not indexed before waiting ended."""
    epoch: Epoch | None = None
    """The epoch of an index that has all documents."""

    def count(self, status: IngestStatus) -> int:
        """Return the number of documents with this status."""
        return sum(found == status for found, _ in self.documents.values())

    @property
    def published(self) -> int:
        """The number of documents written to the log."""
        return len(self.documents) - self.count("unchanged")


async def publish_and_wait(
    poise: DocumentClient,
    documents: Iterable[tuple[str, Document | RejectedDocument]],
    *,
    ids: set[str],
    force: bool = False,
    idle_timeout: float | None = IDLE_TIMEOUT,
    on_progress: OnProgress = lambda _stage, _done, _total: None,
    on_rejected: Callable[[RejectedDocument], None] = lambda _: None,
) -> IngestResult:
    """Publish the documents that are new or changed, and wait until they are indexed.

    Args:
        poise: The client.
        documents: By id; read lazily, in batches.
        ids: Their ids.
        force: Publish unchanged documents too.
        idle_timeout: Seconds to wait without any activity in the index; None = do not wait.
        on_progress: Called when a stage starts, and for each document that it finishes.
        on_rejected: Called for each rejected document.

    Raises:
        UnavailableError: The broker does not accept them.
    """
    result = IngestResult()

    def reject(document: RejectedDocument) -> None:
        result.rejected.append(document)
        on_rejected(document)

    before = await find_published(poise.mesh, ids)
    async with IndexingWatcher(poise.mesh) as watcher:
        done, total = 0, len(ids)
        on_progress("publish", done, total)
        async for id_, published in _publish_changed(poise, documents, {} if force else before):
            done += 1
            on_progress("publish", done, total)
            if isinstance(published, RejectedDocument):
                reject(published)
                continue
            previous = before.get(id_)
            if previous is not None and previous.position == published:
                result.documents[id_] = "unchanged", published
                continue
            result.documents[id_] = "new" if previous is None else "changed", published
            watcher.expect(id_, published)
        if idle_timeout is not None and result.published:
            await _wait_indexed(watcher, result, idle_timeout, on_progress, reject)
    result.epoch = await poise.epoch_of(at for _, at in result.documents.values())
    return result


async def _publish_changed(
    poise: DocumentClient,
    documents: Iterable[tuple[str, Document | RejectedDocument]],
    before: Mapping[str, PublishedDocument],
) -> AsyncIterator[tuple[str, Position | RejectedDocument]]:
    """Publish in batches what differs from `before`; yield the position of each document, or its rejection."""

    async def put(id_: str, document: Document | RejectedDocument) -> Position | RejectedDocument:
        if isinstance(document, RejectedDocument):
            return document
        previous = before.get(id_)
        if previous is not None and previous.digest == document_digest(document):
            return previous.position
        try:
            return await poise.put(id_, document)
        except TerminalError as error:
            return RejectedDocument(id_, str(error))

    rest: Iterator[tuple[str, Document | RejectedDocument]] = iter(documents)
    while batch := await asyncio.to_thread(lambda: list(islice(rest, MAX_IN_FLIGHT))):
        results = await asyncio.gather(*(put(id_, document) for id_, document in batch))
        for (id_, _), published in zip(batch, results, strict=True):
            yield id_, published


async def _wait_indexed(
    watcher: IndexingWatcher,
    result: IngestResult,
    idle_timeout: float,
    on_progress: OnProgress,
    reject: Callable[[RejectedDocument], None],
) -> None:
    done, total = 0, result.published
    on_progress("index", done, total)
    try:
        async for outcome in watcher.outcomes(idle_timeout):
            done += 1
            on_progress("index", done, total)
            if isinstance(outcome, Indexed):
                result.indexed += 1
                result.passages += outcome.passages
            else:
                del result.documents[outcome.id]
                reject(RejectedDocument(outcome.id, f"became a dead letter, see `poise dlq ls`: {outcome.reason}"))
    except IndexingStalledError:
        result.pending = watcher.pending
