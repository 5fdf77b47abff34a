"""Embedding: texts as vectors of unit length, near one another where the texts mean alike.

The model (`poise.embedding`) runs in threads. Queries have one of their own and documents theirs, which Linux serves
last, so that a backlog of documents holds up neither a query nor anything else on the machine.
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

from poise.embedding import EmbeddingModel, lower_thread_priority, model_id
from poise.errors import RetryableError, SetupError
from poise.liveness import CHECK_INTERVAL, Component, Liveness
from poise.telemetry import measure, semconv
from poise.text.error_text import error_message, error_with_type

if TYPE_CHECKING:
    from poise.embedding import Vector

log = logging.getLogger(__name__)

BATCH_SIZE: Final = 8
"""Texts after which a document lets others have a turn, and can be interrupted."""
LOAD_RETRY_INTERVAL: Final = 5.0
"""Seconds after which a model that could not be loaded is tried again."""


class Embedder(Protocol):
    """What makes vectors; another model, or a server of one, stands behind the same three names."""

    @property
    def model(self) -> str:
        """The model's id: vectors of different models are not comparable."""

    async def embed_query(self, text: str) -> "Vector":
        """The vector of a query, float32, of unit length; somebody waits for it.

        Raises:
            EmbedderError: There is none to be had now.
        """

    async def embed_texts(self, texts: Sequence[str]) -> "list[Vector]":
        """The vectors of a document's texts, in their order; waits while the model is not there.

        Raises:
            EmbedderError: The model failed on them.
        """


class EmbedderError(RetryableError):
    """A text has no vector: the model is not there, or failed on it."""


class MiniLm:
    """The built-in model. It loads in a thread from entering on, half a second of CPU, while others come up.

    While its file cannot be loaded, a query has no vector, documents wait, and it is tried again.

    Args:
        documents_at_once: Threads for documents' texts.
        file: The model's file; None = that of its package.
        load_retry_interval: Seconds after which a file that could not be loaded is tried again.
        liveness: Of which the model is a part: what may not stand still is the loading, and later the queries' thread.
            A file that cannot be loaded leaves the process ready.

    Raises:
        SetupError: The model's packages are not installed.
    """

    def __init__(
        self,
        *,
        documents_at_once: int = 1,
        file: Path | None = None,
        load_retry_interval: float = LOAD_RETRY_INTERVAL,
        liveness: Liveness | None = None,
    ) -> None:
        self._at_once = documents_at_once
        self._file = file
        self._load_retry_interval = load_retry_interval
        self._load_attempted = asyncio.Event()
        self._load_error: Exception | None = None
        self._loaded = asyncio.Event()
        self._model: EmbeddingModel | None = None
        self._liveness = liveness or Liveness()
        self._part: Component | None = None
        self._task: asyncio.Task[None] | None = None
        self._queries = ThreadPoolExecutor(1, "embed-query")
        self._documents = ThreadPoolExecutor(documents_at_once, "embed-documents", initializer=lower_thread_priority)

    async def __aenter__(self) -> Self:
        """Begin to load the model."""
        self._part = self._liveness.component("embedding model")
        self._task = self._part.run(self._run(self._part))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Give the threads back; what one of them is at work on is at most a slice."""
        if self._part is not None:
            self._part.close()
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
        """The vector of a query."""
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
        """The vectors of a document's texts."""
        model = await self.wait_loaded()
        started = time.perf_counter()
        loop = asyncio.get_running_loop()
        vectors: list[Vector] = []
        slices = [texts[first : first + BATCH_SIZE] for first in range(0, len(texts), BATCH_SIZE)]
        for first in range(0, len(slices), self._at_once):
            turn = slices[first : first + self._at_once]
            try:
                done = await asyncio.gather(
                    *(loop.run_in_executor(self._documents, model.embed_all, some) for some in turn)
                )
            except Exception as error:
                raise EmbedderError(f"the embedding model failed: {error_with_type(error)}") from error
            vectors += chain.from_iterable(done)
        measure(semconv.EMBED_DURATION, time.perf_counter() - started, {semconv.EMBED_OF: "parts"})
        return vectors

    async def wait_loaded(self) -> "EmbeddingModel":
        """Wait until the model is loaded, however long that takes.

        Raises:
            SetupError: Its packages are not installed.
        """
        while self._model is None:
            await self._until(self._loaded)
        return self._model

    async def wait_load_attempted(self) -> None:
        """Wait until the model is loaded, or could not be.

        Raises:
            SetupError: Its packages are not installed.
        """
        await self._until(self._load_attempted)

    async def _until(self, event: asyncio.Event) -> None:
        if self._task is None:
            raise SetupError("the embedding model is not loaded: use it inside `async with`")
        waiting = asyncio.ensure_future(event.wait())
        try:
            await asyncio.wait({self._task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        if self._task.done():
            self._task.result()

    async def _run(self, part: Component) -> None:
        """Load the model, then see each second that the queries' thread still takes work."""
        loop = asyncio.get_running_loop()
        self._model = await self._load(part)
        self._loaded.set()
        self._load_attempted.set()
        while True:
            await loop.run_in_executor(self._queries, _no_op)
            part.progress()
            await asyncio.sleep(CHECK_INTERVAL)

    async def _load(self, part: Component) -> "EmbeddingModel":
        loop = asyncio.get_running_loop()
        while True:
            try:
                model = await loop.run_in_executor(self._queries, EmbeddingModel, self._file)
            except SetupError:
                raise
            except Exception as error:  # noqa: BLE001 - the runtime has many, and whatever it is: search goes on by words
                if self._load_error is None:
                    log.warning(
                        "the embedding model cannot be loaded, so documents wait for it: %s", error_message(error)
                    )
                self._load_error = error
                self._load_attempted.set()
                part.progress()
                await asyncio.sleep(self._load_retry_interval)
            else:
                if self._load_error is not None:
                    log.info("the embedding model is loaded")
                self._load_error = None
                return model


def _no_op() -> None:
    """Find that a thread takes work."""
