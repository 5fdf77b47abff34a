"""The evaluation tier's handlers."""

from collections.abc import Mapping

from poise.contracts import Feedback, Message, RunRecord, Score
from poise.contracts.topics import SCORES
from poise.executors.limited import LimitedExecutor
from poise.run_log.lookup import RunLog
from poise.telemetry import measure, semconv, span
from poise.worker.context import Context, Handler
from poise_services.evaluation.embedding_scorer import EmbeddingScorer, score_with_embeddings
from poise_services.evaluation.feedback import FeedbackHandler
from poise_services.evaluation.run_scores import score_run, scoring_size

LATENCY = "latency_ms."
NO_SHARE = ("raw_ms", "raw_cost")
"""Not 0 to 1, as the metric of scores is."""


class Scorer:
    """Handles `RunRecord`.

    Args:
        vectors: What compares by meaning; None = quality is told by words alone.
        executor: Has a process for large records; None = its own.
    """

    def __init__(self, vectors: EmbeddingScorer | None = None, executor: LimitedExecutor | None = None) -> None:
        self._vectors = vectors
        self._executor = executor or LimitedExecutor()

    async def score(self, record: RunRecord, context: Context) -> None:
        """Score a run that was answered and publish what is thought of it; one that ended in a fault drew no variant.

        Raises:
            RetryableError: It could not be compared by meaning.
            WorkLimitError: That took too long, or too much memory.
        """
        if record.answer is None and record.draw is None:
            return
        with span(semconv.SCORE_RUN):
            judged = await self._score(record)
        record_metrics(judged)
        await context.publish(SCORES, judged, key=judged.policy)

    async def _score(self, record: RunRecord) -> Score:
        size = scoring_size(record)
        if self._vectors is not None and not self._executor.is_large(size):
            return await self._vectors.score(record)
        scored = score_run if self._vectors is None else score_with_embeddings
        return await self._executor.run(scored, record, size=size)


def record_metrics(judged: Score) -> None:
    """Add a score to the metrics of this worker."""
    for name, value in judged.values.items():
        if name.startswith(LATENCY):
            labels = {semconv.STEP: name.removeprefix(LATENCY), semconv.VARIANT: judged.variant}
            measure(semconv.STEP_LATENCY, value / 1_000, labels)
        elif name not in NO_SHARE:
            measure(semconv.SCORES, value, {semconv.SCORE: name, semconv.VARIANT: judged.variant})


def handlers(
    run_log: RunLog, vectors: EmbeddingScorer | None = None, executor: LimitedExecutor | None = None
) -> Mapping[type[Message], Handler]:
    """One handler by the type of message it takes; with vectors, runs are compared by meaning too."""
    return {RunRecord: Scorer(vectors, executor).score, Feedback: FeedbackHandler(run_log).join}
