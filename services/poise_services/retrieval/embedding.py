"""Embeds texts as vectors of unit length.

The model (`poise.embedding`) runs in threads: one for queries, others for documents. Linux schedules the latter at low
priority, so that a backlog of documents delays neither queries nor other processes.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Protocol, Self

from poise.embedding import EmbeddingModel, ModelLoadError, lower_thread_priority, model_id
from poise.errors import RetryableError, SetupError
from poise.liveness import CHECK_INTERVAL, Component, Liveness
from poise.telemetry import measure, semconv
from poise.text.error_text import error_with_type

if TYPE_CHECKING:
    from poise.embedding import Vector

log = logging.getLogger(__name__)

BATCH_SIZE: Final = 8
"""Texts embedded at a time. Between batches, a document can be interrupted, and others are embedded."""
LOAD_RETRY_INTERVAL: Final = 5.0
"""Seconds between attempts to load the model."""


class Embedder(Protocol):
    """Embeds texts; implemented by the built-in model."""

    @property
    def model(self) -> str:
        """The model's id: vectors of different models are not comparable."""

    async def embed_query(self, text: str) -> "Vector":
        """Return the vector of a query, float32, of unit length.

        Raises:
            EmbedderError: The model is not available.
        """

    async def embed_texts(self, texts: Sequence[str]) -> "list[Vector]":
        """Return the vectors of a document's texts, in order; wait while the model is not loaded.

        Raises:
            EmbedderError: The model failed on them.
        """


class EmbedderError(RetryableError):
    """A text could not be embedded: the model is not loaded, or failed."""


class MiniLm:
    """The built-in model. On entering, it starts to load in a thread (0.5 s of CPU).

    While its file cannot be loaded, loading is retried, queries fail and documents wait.

    Args:
        embedding_threads: Threads for documents' texts.
        file: The model's file; None = that of its package.
        load_retry_interval: Seconds between attempts to load the file.
        liveness: Supervises the loading, and then the queries' thread. A file that cannot be loaded leaves the process
            ready.

    Raises:
        SetupError: The model's packages are not installed.
    """

    def __init__(
        self,
        *,
        embedding_threads: int = 1,
        file: Path | None = None,
        load_retry_interval: float = LOAD_RETRY_INTERVAL,
        liveness: Liveness | None = None,
    ) -> None:
        self._threads = embedding_threads
        self._file = file
        self._load_retry_interval = load_retry_interval
        self._load_attempted = asyncio.Event()
        self._load_error: Exception | None = None
        self._loaded = asyncio.Event()
        self._model: EmbeddingModel | None = None
        self._liveness = liveness or Liveness()
        self._component: Component | None = None
        self._task: asyncio.Task[None] | None = None
        self._queries = ThreadPoolExecutor(1, "embed-query")
        self._documents = ThreadPoolExecutor(embedding_threads, "embed-documents", initializer=lower_thread_priority)

    async def __aenter__(self) -> Self:
        """Start to load the model."""
        self._component = self._liveness.component("embedding model")
        self._task = self._component.run(self._run(self._component))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop each thread after its current batch, at the latest."""
        if self._component is not None:
            self._component.close()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        self._queries.shutdown(cancel_futures=True)
        self._documents.shutdown(cancel_futures=True)

    @property
    def model(self) -> str:
        """The model's id, as its package names it."""
        return model_id()

    async def embed_query(self, text: str) -> "Vector":
        """Return the vector of a query."""
        if self._load_error is not None:
            raise EmbedderError("the embedding model cannot be loaded") from self._load_error
        model = await self.wait_loaded()
        started = time.perf_counter()
        try:
            vector = await asyncio.get_running_loop().run_in_executor(self._queries, model.embed, text)
        except Exception as error:
            raise EmbedderError("the embedding model failed") from error
        measure(semconv.EMBED_DURATION, time.perf_counter() - started, {semconv.EMBED_OF: "query"})
        return vector

    async def embed_texts(self, texts: Sequence[str]) -> "list[Vector]":
        """Return the vectors of a document's texts."""
        model = await self.wait_loaded()
        started = time.perf_counter()
        loop = asyncio.get_running_loop()
        vectors: list[Vector] = []
        batches = [texts[first : first + BATCH_SIZE] for first in range(0, len(texts), BATCH_SIZE)]
        for first in range(0, len(batches), self._threads):
            group = batches[first : first + self._threads]
            try:
                results = await asyncio.gather(
                    *(loop.run_in_executor(self._documents, model.embed_all, batch) for batch in group)
                )
            except Exception as error:
                raise EmbedderError(f"the embedding model failed: {error_with_type(error)}") from error
            vectors += chain.from_iterable(results)
        measure(semconv.EMBED_DURATION, time.perf_counter() - started, {semconv.EMBED_OF: "passages"})
        return vectors

    async def wait_loaded(self) -> "EmbeddingModel":
        """Wait without a time limit until the model is loaded.

        Raises:
            SetupError: Its packages are not installed.
        """
        while self._model is None:
            await self._wait_for(self._loaded)
        return self._model

    async def wait_load_attempted(self) -> None:
        """Wait until the model was loaded, or the first attempt failed.

        Raises:
            SetupError: Its packages are not installed.
        """
        await self._wait_for(self._load_attempted)

    async def _wait_for(self, event: asyncio.Event) -> None:
        if self._task is None:
            raise SetupError("the embedding model is not loaded: use it inside `async with`")
        waiting = asyncio.ensure_future(event.wait())
        try:
            await asyncio.wait({self._task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        if self._task.done():
            self._task.result()

    async def _run(self, component: Component) -> None:
        """Load the model, then check periodically that the queries' thread still accepts work."""
        loop = asyncio.get_running_loop()
        self._model = await self._load(component)
        self._loaded.set()
        self._load_attempted.set()
        while True:
            await loop.run_in_executor(self._queries, _no_op)
            component.progress()
            await asyncio.sleep(CHECK_INTERVAL)

    async def _load(self, component: Component) -> "EmbeddingModel":
        loop = asyncio.get_running_loop()
        while True:
            try:
                model = await loop.run_in_executor(self._queries, EmbeddingModel, self._file)
            except ModelLoadError as error:  # meanwhile, search is sparse only
                if self._load_error is None:
                    log.warning("the embedding model cannot be loaded, so documents wait for it: %s", error)
                self._load_error = error
                self._load_attempted.set()
                component.progress()
                await asyncio.sleep(self._load_retry_interval)
            else:
                if self._load_error is not None:
                    log.info("the embedding model is loaded")
                self._load_error = None
                return model


def _no_op() -> None:
    """Do nothing; shows that a thread accepts work."""
