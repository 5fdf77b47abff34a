"""The corpus: this worker's copy of what can be searched, kept up to date by following all of `poise.passages`."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self, TypeVar

from poise.contracts import Epoch
from poise.contracts.topics import DOCUMENTS, PASSAGES
from poise.errors import SetupError
from poise.messaging import Follower, Mesh, Position
from poise.telemetry import observe, table
from services.retrieval.index import Found, Stored
from services.retrieval.ledger import Seen
from services.retrieval.settings import RetrievalSettings
from services.retrieval.store import Origin, Slot, Store

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

log = logging.getLogger(__name__)

_LOOK_AGAIN: Final = 0.5
"""Seconds after which a log without new records is asked whether it has come to its end."""
_T = TypeVar("_T")


class Corpus:
    """`async with Corpus(mesh, settings, model) as corpus`: entered when it has caught up with the log.

    The log is applied in one thread, so that nothing there needs a lock; searching has threads of its own.

    Args:
        mesh: The mesh.
        settings: The tier's settings.
        model: The embedding model's id.

    Raises:
        SetupError: The index cannot be kept on disk, or the log cannot be read; also later, out of the `async with`.
    """

    def __init__(self, mesh: Mesh, settings: RetrievalSettings, model: str) -> None:
        self._mesh = mesh
        self._settings = settings
        self._model = model
        self._writer = ThreadPoolExecutor(1, "index-write")
        self._searchers = ThreadPoolExecutor(2, "index-search")
        self._moved = asyncio.Event()
        self._stack = AsyncExitStack()
        self._tasks = asyncio.TaskGroup()
        self._store: Store | None = None
        self._ready = False

    # -- coming and going -----------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Open the store, follow the log, and wait until everything that was in it is applied."""
        started = time.perf_counter()
        self._mesh.ready_when("index", lambda: self._ready)
        async with AsyncExitStack() as stack:
            stack.enter_context(_alone())
            stack.callback(self._writer.shutdown)
            stack.callback(self._searchers.shutdown)
            slot = stack.enter_context(Slot(self._mesh.settings.state_dir / "index"))
            origin = await self._origin()
            every = self._settings.checkpoint_every
            self._store = store = await self._write(partial(slot.open, origin, checkpoint_every=every))
            stack.push_async_callback(lambda: self._write(store.close))
            stack.callback(observe(table.INDEX_PASSAGES, lambda: len(store.index)))
            follower = await stack.enter_async_context(self._mesh.follow(PASSAGES.name, start=store.nexts))
            await stack.enter_async_context(self._tasks)
            following = self._tasks.create_task(self._follow(follower))
            stack.callback(following.cancel)
            await self._until(lambda: _applied(store, follower) or follower.caught_up())
            self._stack = stack.pop_all()
        self._ready = True
        log.info(
            "index %s is ready after %.2f s: %d passages", slot.folder, time.perf_counter() - started, len(store.index)
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        """Stop following and close the store in good order."""
        self._ready = False
        return await self._stack.__aexit__(kind, error, traceback)

    async def _origin(self) -> Origin:
        return Origin(
            documents=await self._mesh.topic_id(DOCUMENTS.name),
            passages=await self._mesh.topic_id(PASSAGES.name),
            model=self._model,
        )

    async def _follow(self, follower: Follower) -> None:
        async for records in follower:
            try:
                await self._write(partial(self._open.apply, records))
            except Exception as error:
                raise SetupError(f"the index cannot go on ({error}): is the disk of POISE_STATE_DIR full?") from error
            self._move()

    # -- asking ---------------------------------------------------------------------------------------------------

    @property
    def epoch(self) -> Epoch:
        """How far it has come. Read it before searching: then what is found is at least of this epoch."""
        return self._open.epoch

    async def search(self, text: str, vector: "NDArray[np.float32] | None", limit: int) -> list[Found]:
        """The passages that bear most on a query, best first; see `Index.search`."""
        index, candidates = self._open.index, self._settings.candidates
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._searchers, lambda: index.search(text, vector, limit=limit, candidates=candidates)
        )

    async def seen(self, document: str) -> Seen:
        """The version of a document that is seen."""
        return await self._write(lambda: self._open.ledger.seen(document))

    async def stored(self, document: str) -> list[Stored]:
        """The parts of the version of a document that is seen, in order."""
        store = self._open
        return await self._write(lambda: store.index.stored(document, store.ledger.seen(document).parts))

    async def until_applied(self, position: Position) -> None:
        """Wait until a record of `poise.passages`, and so each before it in its partition, has been applied."""
        await self._until(lambda: self._open.nexts.get(position.partition, 0) > position.offset)

    async def until_reached(self, epoch: Epoch) -> None:
        """Wait until it has come as far as an epoch."""
        await self._until(lambda: self.epoch.reached(epoch))

    # -- waiting and threads --------------------------------------------------------------------------------------

    @property
    def _open(self) -> Store:
        if self._store is None:
            raise SetupError("the corpus is not open: use it inside `async with`")
        return self._store

    async def _until(self, check: Callable[[], bool]) -> None:
        while not check():
            moved = self._moved
            try:
                async with asyncio.timeout(_LOOK_AGAIN):
                    await moved.wait()
            except TimeoutError:
                continue

    def _move(self) -> None:
        """Wake whoever waits; who waits from here on waits for the next move."""
        self._moved.set()
        self._moved = asyncio.Event()

    async def _write(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._writer, work)


@contextmanager
def _alone() -> Iterator[None]:
    """Of the errors that a task group collects, the first: the rest came of it."""
    try:
        yield
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from None


def _applied(store: Store, follower: Follower) -> bool:
    """Whether everything up to the ends that following began with is applied."""
    return all(store.nexts.get(partition, 0) >= end for partition, end in follower.ends.items())
