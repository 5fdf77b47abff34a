"""Vectors: runs scored with a comparison by meaning, in a thread of its own.

A run takes 10 ms to half a second of a core so, and onnxruntime releases the GIL: the worker's loop goes on meanwhile,
decides over policies and answers for its health. On Linux that thread runs when no other wants to: nobody waits for a
score. Where a run cannot be compared, it is not scored by words instead: the two are not the same measure, and a policy
that is fed now one and now the other would see shifts where there are none.
"""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import cache
from typing import TYPE_CHECKING

from poise.contracts import RunRecord, Score
from poise.embedding import EmbeddingModel, lower_thread_priority
from poise.errors import RetryableError, SetupError
from poise.scoring import Embed
from poise.text.error_text import error_message, error_with_type
from poise_services.evaluation.run_scores import score_run
from poise_services.evaluation.settings import EvaluationSettings

if TYPE_CHECKING:
    from poise.embedding import Vector


@cache
def _model() -> EmbeddingModel:
    return EmbeddingModel()


def score_with_embeddings(record: RunRecord) -> Score:
    """Score a run in a process of its own, whose model is loaded at the first one."""
    return score_run(record, _model().embed)


class EmbeddingScorer:
    """Scores runs with vectors.

    Args:
        embed: What makes the vector of a text.
        thread: Where; a single one, for what scoring remembers is shared.
    """

    def __init__(self, embed: Embed, thread: ThreadPoolExecutor) -> None:
        self._embed = embed
        self._thread = thread

    async def score(self, record: RunRecord) -> Score:
        """Score a run; its quality compares by meaning.

        Raises:
            RetryableError: The model failed on it.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, score_run, record, self._vector)

    def _vector(self, text: str) -> "Vector":
        try:
            return self._embed(text)
        except Exception as error:
            told = f"an answer could not be compared by meaning: {error_with_type(error)}"
            raise RetryableError(told) from error


@asynccontextmanager
async def embedding_scorer(settings: EvaluationSettings) -> AsyncIterator[EmbeddingScorer | None]:
    """What the settings ask for, its model loaded; None = runs are scored by words alone.

    Raises:
        SetupError: The model's packages are not installed, or it cannot be loaded.
    """
    if not settings.embedding:
        yield None
        return
    thread = ThreadPoolExecutor(1, "compare", initializer=lower_thread_priority)
    try:
        yield EmbeddingScorer((await _loaded(thread)).embed, thread)
    finally:
        thread.shutdown(cancel_futures=True)


async def _loaded(thread: ThreadPoolExecutor) -> EmbeddingModel:
    try:
        return await asyncio.get_running_loop().run_in_executor(thread, EmbeddingModel)
    except SetupError:
        raise
    except Exception as error:
        reason = error_message(error)
        told = f"the embedding model cannot be loaded ({reason}): POISE_EVALUATION_EMBEDDING=false does without"
        raise SetupError(told) from error
