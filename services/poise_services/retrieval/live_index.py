"""This worker's search index, kept up to date by reading all of `poise.passages`."""

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self, TypeVar

from poise.contracts import Epoch
from poise.contracts.topics import DOCUMENTS, PASSAGES
from poise.errors import RetryableError, UnavailableError
from poise.ingestion.epoch_validator import EpochValidator
from poise.kafka.log_reader import LogReader
from poise.kafka.record import Position, Record
from poise.telemetry import observe, semconv
from poise.worker.connection import MeshConnection
from poise_services.retrieval.index import SearchHit, StoredPassage
from poise_services.retrieval.index_metadata import CopiedRecord, VersionState
from poise_services.retrieval.settings import RetrievalSettings
from poise_services.retrieval.store import DOCUMENTS_RECREATED, IndexFolder, IndexStore, StoreOrigin

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

log = logging.getLogger(__name__)

INDEX_REBUILDING: Final = "the index is not open: it is being rebuilt from poise.passages"
_T = TypeVar("_T")


class LiveIndex:
    """`async with LiveIndex(mesh, settings, model) as live_index`: entered when all of the log has been applied.

    One thread applies the log and reads the metadata, so they need no lock; searches have their own threads.

    Args:
        mesh: The connection to the broker.
        settings: The tier's settings.
        model: The embedding model's id.

    Raises:
        SetupError: The index cannot be written, or the log cannot be read. After start, this ends the process.
    """

    def __init__(self, mesh: MeshConnection, settings: RetrievalSettings, model: str) -> None:
        self.logs = mesh.logs
        self.producer = mesh.producer
        self._mesh = mesh
        self._settings = settings
        self._model = model
        self._writer = ThreadPoolExecutor(1, "index-write")
        self._searchers = ThreadPoolExecutor(2, "index-search")
        self._epochs = EpochValidator(mesh.logs.access)
        self._stack = AsyncExitStack()
        self._store: IndexStore | None = None
        self._reader: LogReader | None = None

    # -- lifecycle -----------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Open the store, read the log, and wait until everything up to its end is applied."""
        started = time.perf_counter()
        identities = self._mesh.topic_identities
        self._mesh.ready_when("index", lambda: self._reader is not None and self._reader.reached_opening_end())
        async with AsyncExitStack() as stack:
            stack.callback(self._writer.shutdown)
            stack.callback(self._searchers.shutdown)
            folder = stack.enter_context(IndexFolder(self._mesh.settings.state_dir / "index"))
            await stack.enter_async_context(self._epochs)
            origin = await self._current_origin()
            open_store = partial(folder.open, origin, checkpoint_interval=self._settings.checkpoint_interval)
            self._store = await self._run_in_writer(open_store)
            stack.push_async_callback(self._close)
            stack.callback(
                observe(semconv.INDEX_PASSAGES, lambda: 0 if self._store is None else len(self._store.index))
            )
            self._reader = reader = LogReader(
                self.logs.access,
                PASSAGES.name,
                self._apply,
                start=dict(self._store.next_offsets),
                on_reset=partial(self._rebuild, folder),
                run_batch=self._run_in_writer,
            )
            await stack.enter_async_context(reader)
            stack.callback(observe(semconv.INDEX_LAG, lambda: reader.lag))
            identities.watch(DOCUMENTS.name, self._documents_recreated, known=origin.documents)
            stack.callback(identities.unwatch, DOCUMENTS.name, self._documents_recreated)
            await reader.wait_until(reader.reached_opening_end)
            self._stack = stack.pop_all()
        seconds = time.perf_counter() - started
        log.info("index %s is ready after %.2f s: %d passages", folder.path, seconds, len(self._open_store.index))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        """Stop reading and close the store cleanly."""
        return await self._stack.__aexit__(kind, error, traceback)

    async def _current_origin(self) -> StoreOrigin:
        return StoreOrigin(
            documents=await self.logs.topic_id(DOCUMENTS.name),
            passages=await self.logs.topic_id(PASSAGES.name),
            model=self._model,
        )

    async def _close(self) -> None:
        store, self._store = self._store, None
        if store is not None:
            await self._run_in_writer(store.close)

    def _apply(self, record: Record) -> None:
        self._open_store.apply(record)

    def _documents_recreated(self, topic_id: str) -> None:
        if self._reader is not None and (self._store is None or self._store.origin.documents != topic_id):
            self._reader.restart(f"topic {DOCUMENTS.name} was deleted and recreated")

    async def _rebuild(self, folder: IndexFolder) -> None:
        """Start with an empty index, because the log was recreated.

        Raises:
            UnavailableError: Only `poise.documents` was recreated; an operator must decide about the passages.
        """
        store = self._open_store
        current = await self._current_origin()
        if (
            store.origin.passages == current.passages
            and store.origin.documents != current.documents
            and store.next_offsets
        ):
            raise UnavailableError(DOCUMENTS_RECREATED)
        self._store = None
        recreated = partial(folder.recreate, store, current, checkpoint_interval=self._settings.checkpoint_interval)
        self._store = await self._run_in_writer(recreated)

    # -- queries --------------------------------------------------------------------------------------------------

    @property
    def epoch(self) -> Epoch:
        """The epoch of the index. Read it before searching, so that the results are at least of this epoch."""
        return self._open_store.epoch

    async def search(self, text: str, vector: "NDArray[np.float32] | None", limit: int) -> list[SearchHit]:
        """Return the most relevant passages, best first; see `Index.search`."""
        store = self._open_store
        candidates = self._settings.candidates
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(
                self._searchers, lambda: store.index.search(text, vector, limit=limit, candidates=candidates)
            )
        except Exception as error:
            if store is not self._store:
                raise RetryableError(INDEX_REBUILDING) from error
            raise

    async def visible_version(self, document: str) -> VersionState:
        """Return the visible version of a document."""
        return await self._run_in_writer(lambda: self._open_store.metadata.version_of(document))

    async def expired_deletions(
        self, partition: int, *, before: float, max_retained: int, limit: int
    ) -> list[tuple[str, int]]:
        """Return expired deletions of unknown documents; see `IndexMetadata.expired_deletions`."""
        return await self._run_in_writer(
            lambda: self._open_store.metadata.expired_deletions(
                partition, before=before, max_retained=max_retained, limit=limit
            )
        )

    async def expired_copied_deletions(
        self, partition: int, *, before: float, max_retained: int, limit: int
    ) -> list[tuple[str, int]]:
        """Return expired deletions that were copied; see `IndexMetadata.expired_copied_deletions`."""
        metadata = self._open_store.metadata
        return await self._run_in_writer(
            lambda: metadata.expired_copied_deletions(partition, before=before, max_retained=max_retained, limit=limit)
        )

    async def copied_records(self, document: str) -> dict[int, CopiedRecord]:
        """Return the copied records of a document, by the partition that they were copied from."""
        return await self._run_in_writer(lambda: self._open_store.metadata.copied_records(document))

    async def stored_passages(self, document: str) -> list[StoredPassage]:
        """Return the passages of the visible version of a document, in order."""
        store = self._open_store
        return await self._run_in_writer(
            lambda: store.index.get_passages(document, store.metadata.version_of(document).passage_count)
        )

    async def wait_applied(self, position: Position) -> None:
        """Wait until a record of `poise.passages`, and all before it in its partition, are applied."""
        await self._wait_until(lambda: self._open_store.next_offsets.get(position.partition, 0) > position.offset)

    async def check_epoch(self, epoch: Epoch) -> None:
        """Check that the index can reach an epoch.

        Raises:
            InvalidMessageError: It never can.
        """
        await self._epochs.validate(epoch)

    async def wait_for_epoch(self, epoch: Epoch) -> None:
        """Wait until the index has reached an epoch."""
        await self._wait_until(lambda: self.epoch.reached(epoch))

    # -- waiting and threads --------------------------------------------------------------------------------------

    @property
    def _open_store(self) -> IndexStore:
        if self._store is None:
            raise RetryableError(INDEX_REBUILDING)
        return self._store

    async def _wait_until(self, condition: Callable[[], bool]) -> None:
        if self._reader is None:
            raise RetryableError(INDEX_REBUILDING)
        await self._reader.wait_until(condition)

    async def _run_in_writer(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._writer, work)
