"""The evaluation tier's handlers."""

from collections.abc import Mapping

from poise.contracts import Feedback, Message, RunRecord, Score
from poise.contracts.topics import SCORES
from poise.messaging import Context, Handler
from poise.telemetry import measure, span, table
from services.evaluation.feedback import Feedbacks
from services.evaluation.scores import score

LATENCY = "latency_ms."
NO_SHARE = ("raw_ms", "raw_cost")
"""Not 0 to 1, as the metric of scores is."""


async def judge(record: RunRecord, context: Context) -> None:
    """Score a finished run and publish what is thought of it."""
    with span(table.SCORE_RUN):
        judged = score(record)
    show(judged)
    await context.publish(SCORES, judged, key=judged.policy)


def show(judged: Score) -> None:
    """Add a score to the metrics of this worker."""
    for name, value in judged.values.items():
        if name.startswith(LATENCY):
            labels = {table.STEP: name.removeprefix(LATENCY), table.VARIANT: judged.variant}
            measure(table.STEP_LATENCY, value / 1_000, labels)
        elif name not in NO_SHARE:
            measure(table.SCORES, value, {table.SCORE: name, table.VARIANT: judged.variant})


def handlers() -> Mapping[type[Message], Handler]:
    """One handler by the type of message it takes."""
    return {RunRecord: judge, Feedback: Feedbacks().join}
