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

LATENCY_PREFIX = "latency_ms."
"""Prefix of the values that are a step's latency."""
UNBOUNDED_VALUES = ("raw_ms", "raw_cost")
"""Values that are not from 0 to 1, and so are not recorded in the metric of scores."""


class Scorer:
    """Handles `RunRecord`.

    Args:
        embedding_scorer: Scores with embeddings; None = quality is scored lexically.
        executor: Scores large records in a child process; None = a new one.
    """

    def __init__(
        self, embedding_scorer: EmbeddingScorer | None = None, executor: LimitedExecutor | None = None
    ) -> None:
        self._embedding_scorer = embedding_scorer
        self._executor = executor or LimitedExecutor()

    async def score(self, record: RunRecord, context: Context) -> None:
        """Score a run and publish the score; a run without an answer and without a draw has no score.

        Raises:
            RetryableError: The embedding model failed.
            WorkLimitError: Scoring took too long or too much memory.
        """
        if record.answer is None and record.draw is None:
            return
        with span(semconv.SCORE_RUN):
            score = await self._score(record)
        record_metrics(score)
        await context.publish(SCORES, score, key=score.policy)

    async def _score(self, record: RunRecord) -> Score:
        size = scoring_size(record)
        if self._embedding_scorer is not None and not self._executor.is_large(size):
            return await self._embedding_scorer.score(record)
        function = score_run if self._embedding_scorer is None else score_with_embeddings
        return await self._executor.run(function, record, size=size)


def record_metrics(score: Score) -> None:
    """Record the metrics of a score."""
    for name, value in score.values.items():
        if name.startswith(LATENCY_PREFIX):
            labels = {semconv.STEP: name.removeprefix(LATENCY_PREFIX), semconv.VARIANT: score.variant}
            measure(semconv.STEP_LATENCY, value / 1_000, labels)
        elif name not in UNBOUNDED_VALUES:
            measure(semconv.SCORES, value, {semconv.SCORE: name, semconv.VARIANT: score.variant})


def handlers(
    run_log: RunLog, embedding_scorer: EmbeddingScorer | None = None, executor: LimitedExecutor | None = None
) -> Mapping[type[Message], Handler]:
    """Return the handlers by message type; with an embedding scorer, runs are also scored with embeddings."""
    return {RunRecord: Scorer(embedding_scorer, executor).score, Feedback: FeedbackHandler(run_log).join}
