"""Scoring with embeddings, in a separate thread.

A run takes 10 ms to half a second of a core, and onnxruntime releases the GIL: meanwhile the event loop decides on
policies and answers health checks. On Linux the thread has the lowest priority, because no caller waits for a score. A
run that cannot be embedded is not scored lexically instead: the two measures differ, and a policy that gets a mix of
them would detect shifts that do not exist.
"""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import cache
from typing import TYPE_CHECKING

from poise.contracts import RunRecord, Score
from poise.embedding import EmbeddingModel, ModelLoadError, lower_thread_priority
from poise.errors import RetryableError, SetupError
from poise.scoring import Embed
from poise.text.error_text import error_with_type
from poise_services.evaluation.run_scores import score_run
from poise_services.evaluation.settings import EvaluationSettings

if TYPE_CHECKING:
    from poise.embedding import Vector


@cache
def _model() -> EmbeddingModel:
    return EmbeddingModel()


def score_with_embeddings(record: RunRecord) -> Score:
    """Score a run in a child process, which loads the model at its first run."""
    return score_run(record, _model().embed)


class EmbeddingScorer:
    """Scores runs with embeddings.

    Args:
        embed: Returns the vector of a text.
        thread: The thread to score in; a single one, because scoring shares its caches.
    """

    def __init__(self, embed: Embed, thread: ThreadPoolExecutor) -> None:
        self._embed = embed
        self._thread = thread

    async def score(self, record: RunRecord) -> Score:
        """Score a run; its quality includes a comparison of embeddings.

        Raises:
            RetryableError: The model failed.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, score_run, record, self._vector)

    def _vector(self, text: str) -> "Vector":
        try:
            return self._embed(text)
        except Exception as error:
            message = f"an answer could not be embedded: {error_with_type(error)}"
            raise RetryableError(message) from error


@asynccontextmanager
async def embedding_scorer(settings: EvaluationSettings) -> AsyncIterator[EmbeddingScorer | None]:
    """Yield the scorer with its model loaded; None = the settings do not ask for one.

    Raises:
        SetupError: The model's packages are not installed, or it cannot be loaded.
    """
    if not settings.embedding:
        yield None
        return
    thread = ThreadPoolExecutor(1, "compare", initializer=lower_thread_priority)
    try:
        yield EmbeddingScorer((await _load_model(thread)).embed, thread)
    finally:
        thread.shutdown(cancel_futures=True)


async def _load_model(thread: ThreadPoolExecutor) -> EmbeddingModel:
    try:
        return await asyncio.get_running_loop().run_in_executor(thread, EmbeddingModel)
    except ModelLoadError as error:
        message = f"the embedding model cannot be loaded ({error}): POISE_EVALUATION_EMBEDDING=false does without"
        raise SetupError(message) from error
