"""The embedding model: vectors of unit length, similar for texts of similar meaning."""

from typing import TYPE_CHECKING

from poise.embedding.model import (
    MAX_INPUT_TOKENS,
    VOCABULARY,
    EmbeddingModel,
    ModelLoadError,
    lower_thread_priority,
    model_id,
)

if TYPE_CHECKING:
    from poise.embedding.model import Vector as Vector

__all__ = ["MAX_INPUT_TOKENS", "VOCABULARY", "EmbeddingModel", "ModelLoadError", "lower_thread_priority", "model_id"]
