"""The embedding model: texts as vectors of unit length, near one another where the texts mean alike."""

from typing import TYPE_CHECKING

from poise.embedding.model import MOST_TOKENS, VOCABULARY, Model, model_id, stand_back

if TYPE_CHECKING:
    from poise.embedding.model import Vector as Vector

__all__ = ["MOST_TOKENS", "VOCABULARY", "Model", "model_id", "stand_back"]
