"""Feedback: joined to the run that it is about, and published as a score of that run's policy and variant.

    joined    the run's record is there: a score goes to `poise.scores`
    early     it is not there, and may still come: tried again after 10 s, 60 s and 10 min
    late      it is not there any more
    unknown   it is not there, and will not come
    foreign   the run is another tenant's

The last three are dead letters, with the reason: nothing that a person wrote is dropped. Such feedback costs a look-up
each time, and a dead letter for two weeks, and anyone may send it. So each worker lets some wait and keeps some, at the
rates below. More is passed over: it is counted, and `poise.feedback` has it for as long as any.
"""

import logging
import time
from collections.abc import Callable
from typing import Final

from poise.contracts import Envelope, Feedback, RunRecord, Score
from poise.contracts.run_id import started_at
from poise.contracts.topics import DAY, HOUR, RECORDS, RETRY_DELAYS, SCORES
from poise.errors import PoiseError, RetryableError, TerminalError
from poise.resilience.token_bucket import TokenBucket
from poise.run_log.records import MAX_DELAY
from poise.telemetry import count, measure, semconv
from poise.worker.context import Context
from poise_services.evaluation.records import Records

log = logging.getLogger(__name__)

RECORD_RETENTION: Final = RECORDS.keep or 0.0
EARLY_RATE: Final = (5.0, 2_000.0)
"""Feedback a second, and at once, whose run left no record yet, that a worker lets wait: at most 5,400 at a time."""
DEAD_RATE: Final = (20 / HOUR, 200.0)
"""Feedback of one outcome a second, and at once, that a worker makes dead letters of."""
MAX_RATING: Final = 5
"""The highest rating; 1 is the lowest."""


class FeedbackHandler:
    """Handles `Feedback`.

    Args:
        records: Finds the records of runs.
        clock: Returns the time, seconds.
    """

    def __init__(self, records: Records, clock: Callable[[], float] = time.monotonic) -> None:
        self._records = records
        self._clock = clock
        self._rates = {"early": TokenBucket(*EARLY_RATE)}
        self._rates |= {outcome: TokenBucket(*DEAD_RATE) for outcome in ("late", "unknown", "foreign")}
        self._passed_over = 0

    async def join(self, feedback: Feedback, context: Context) -> None:
        """Publish feedback as a score of its run.

        Raises:
            RetryableError: Its run has left no record yet, or the records cannot be read.
            TerminalError: Its run left no record and will not, or one that is kept no more; or is another tenant's.
        """
        run, now = feedback.run_id, time.time()
        record = None if is_late(run, now) else await self._records.find(run, now)
        if record is None:
            outcome, error = classify_missing(run, context.written, now)
        elif record.tenant != context.tenant:
            told = f"run {run} is not of the tenant {context.tenant}, for whom {context.record.topic} speaks"
            outcome, error = "foreign", TerminalError(told)
        else:
            return await self._publish(feedback, record, context)
        if not self._too_many(outcome, run):
            count(semconv.FEEDBACKS, 1, {semconv.OUTCOME: outcome})
            raise error
        return None

    async def _publish(self, feedback: Feedback, record: RunRecord, context: Context) -> None:
        scored = score_of(feedback, record, context.written)
        envelope = Envelope(run=scored.run_id, tenant=scored.tenant)  # not those of the message, which anyone may write
        await context.producer.publish(SCORES, scored, key=scored.policy, envelope=envelope)
        count(semconv.FEEDBACKS, 1, {semconv.OUTCOME: "joined"})
        for name, value in scored.values.items():
            measure(semconv.SCORES, value, {semconv.SCORE: name, semconv.VARIANT: scored.variant})

    def _too_many(self, outcome: str, run: str) -> bool:
        """Whether feedback is passed over, for there was too much of its kind; the log says so from time to time."""
        if not self._rates[outcome].take(self._clock()):
            return False
        count(semconv.FEEDBACKS, 1, {semconv.OUTCOME: "passed over"})
        self._passed_over += 1
        if self._passed_over.bit_count() == 1:  # 1, 2, 4, 8, …
            log.warning("%d times feedback passed over, the last was %s, on run %s", self._passed_over, outcome, run)
        return True


def score_of(feedback: Feedback, record: RunRecord, given: float) -> Score:
    """Feedback as a score of its run, with how that run's variant was drawn.

    Args:
        feedback: What a person thought of the answer.
        record: The run.
        given: When it was given, unix seconds.
    """
    values: dict[str, float] = {}
    if feedback.thumb is not None:
        values["feedback_thumb"] = float(feedback.thumb == "up")
    if feedback.rating is not None:
        values["feedback_rating"] = (feedback.rating - 1) / (MAX_RATING - 1)
    if feedback.correction is not None:
        values["feedback_corrected"] = 1.0
    draw = record.draw
    return Score(
        run_id=record.run_id,
        workflow=record.workflow,
        tenant=record.tenant,
        policy=draw.policy if draw else record.workflow,
        policy_version=draw.policy_version if draw else 0,
        variant=draw.variant if draw else "none",
        probability=draw.probability if draw else 1.0,
        rung=record.answer.rung if record.answer is not None else "none",
        at=given,
        feedback=feedback.id or record.run_id,
        values=values,
    )


def is_late(run: str, now: float) -> bool:
    """Whether a run is known to be older than the records that are kept."""
    began = started_at(run)
    return began is not None and began < now - RECORD_RETENTION


def classify_missing(run: str, given: float, now: float) -> tuple[str, PoiseError]:
    """What it means that a run has no record, in one word, and as an error.

    Args:
        run: The run's id.
        given: When the feedback was given, unix seconds.
        now: Unix seconds.
    """
    began = started_at(run)
    if is_late(run, now):
        return "late", TerminalError(f"run {run} is too long ago: records are kept for {RECORD_RETENTION / DAY:g} days")
    if began is not None and began > now + HOUR:
        return "unknown", TerminalError(f"nobody knows run {run}: by its id it would begin in the future")
    ended = began is not None and began < now - MAX_DELAY
    if ended or now - given >= sum(RETRY_DELAYS):
        told = f"nobody knows run {run}: there is no record of it, {now - given:.0f} s after the feedback was given"
        return "unknown", TerminalError(told)
    return "early", RetryableError(f"nobody knows run {run} yet: there is no record of it", retry_after=RETRY_DELAYS[0])
