"""Feedback: joined to the run that it is about, and published as a score of that run's policy and variant.

    joined    the record of the run exists: a score is published to `poise.scores`
    early     there is no record yet: retried after 10 s, 60 s and 10 min
    late      the record is no longer retained
    unknown   there is no record, and there will be none
    foreign   the run belongs to another tenant

The last three become dead letters with the reason, so that no feedback is lost silently. Such feedback costs a look-up
each time and a dead letter for two weeks, and anyone may send it. Therefore each worker limits how much of it is
retried and dead-lettered, at the rates below. The rest is skipped and counted; `poise.feedback` retains it like any
other feedback.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from poise.contracts import Envelope, Feedback, RunRecord, Score
from poise.contracts.run_id import run_started_at
from poise.contracts.topics import DAY, HOUR, RECORDS, RETRY_DELAYS, SCORES
from poise.errors import PoiseError, RetryableError, TerminalError, UnavailableError
from poise.resilience.token_bucket import TokenBucket
from poise.run_log.lookup import RETRY_AFTER, RunLog
from poise.run_log.search_windows import MAX_DELAY
from poise.telemetry import count, measure, semconv, span
from poise.worker.context import Context

log = logging.getLogger(__name__)

RECORD_RETENTION: Final = RECORDS.retention or 0.0
"""Seconds for which the records of runs are retained."""
CONCURRENT_LOOKUPS: Final = 4
"""Runs that a worker looks up at the same time."""
EARLY_RATE: Final = (5.0, 2_000.0)
"""Early feedback that a worker accepts for a retry: per second, and burst; at most 5,400 messages wait at a time."""
DEAD_RATE: Final = (20 / HOUR, 200.0)
"""Feedback of each of the last three outcomes that a worker dead-letters: per second, and burst."""
MAX_RATING: Final = 5
"""The best rating; 1 is the worst."""


class FeedbackHandler:
    """Handles `Feedback`.

    Args:
        run_log: Looks up the records of runs.
        clock: Returns the time, seconds; for the rates.
    """

    def __init__(self, run_log: RunLog, clock: Callable[[], float] = time.monotonic) -> None:
        self._run_log = run_log
        self._slots = asyncio.Semaphore(CONCURRENT_LOOKUPS)
        self._clock = clock
        self._rates = {"early": TokenBucket(*EARLY_RATE)}
        self._rates |= {outcome: TokenBucket(*DEAD_RATE) for outcome in ("late", "unknown", "foreign")}
        self._skipped = 0

    async def join(self, feedback: Feedback, context: Context) -> None:
        """Publish feedback as a score of its run.

        Raises:
            RetryableError: The run has no record yet, or the records cannot be read.
            TerminalError: The run will have no record, its record is no longer retained, or the run belongs to another
                tenant.
        """
        run, now = feedback.run_id, time.time()
        record = None if is_late(run, now) else await self._record(run)
        if record is None:
            outcome, error = classify_missing(run, context.written, now)
        elif record.tenant != context.tenant:
            reason = f"run {run} does not belong to tenant {context.tenant}, the tenant of {context.record.topic}"
            outcome, error = "foreign", TerminalError(reason)
        else:
            return await self._publish(feedback, record, context)
        if not self._exceeds_rate(outcome, run):
            count(semconv.FEEDBACKS, 1, {semconv.OUTCOME: outcome})
            raise error
        return None

    async def _record(self, run: str) -> RunRecord | None:
        try:
            with span(semconv.FIND_RUN):
                async with self._slots:
                    return await self._run_log.record(run)
        except UnavailableError as error:
            raise RetryableError(f"run {run} cannot be looked up: {error}", retry_after=RETRY_AFTER) from error

    async def _publish(self, feedback: Feedback, record: RunRecord, context: Context) -> None:
        score = score_of(feedback, record, context.written)
        # Run and tenant are those of the record: any client may write the envelope of the feedback.
        envelope = Envelope(run=score.run_id, tenant=score.tenant)
        await context.producer.publish(SCORES, score, key=score.policy, envelope=envelope)
        count(semconv.FEEDBACKS, 1, {semconv.OUTCOME: "joined"})
        for name, value in score.values.items():
            measure(semconv.SCORES, value, {semconv.SCORE: name, semconv.VARIANT: score.variant})

    def _exceeds_rate(self, outcome: str, run: str) -> bool:
        """Return whether the feedback of an outcome exceeds its rate and is skipped; log that, ever more rarely."""
        if self._rates[outcome].take_or_delay(self._clock()) == 0:  # taken: within its rate
            return False
        count(semconv.FEEDBACKS, 1, {semconv.OUTCOME: "skipped"})
        self._skipped += 1
        if self._skipped.bit_count() == 1:  # 1, 2, 4, 8, …
            log.warning("skipped feedback %d times, most recently %s feedback on run %s", self._skipped, outcome, run)
        return True


def score_of(feedback: Feedback, record: RunRecord, given_at: float) -> Score:
    """Return feedback as a score of its run, with the draw of that run's variant.

    Args:
        feedback: A person's opinion of the answer.
        record: The run.
        given_at: Unix seconds.
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
        at=given_at,
        feedback=feedback.id or record.run_id,
        values=values,
    )


def is_late(run: str, now: float) -> bool:
    """Return whether a run is known to be older than the retained records."""
    start_time = run_started_at(run)
    return start_time is not None and start_time < now - RECORD_RETENTION


def classify_missing(run: str, given_at: float, now: float) -> tuple[str, PoiseError]:
    """Return the outcome of feedback on a run without a record, and its error.

    Args:
        run: The run id.
        given_at: Unix seconds.
        now: Unix seconds.
    """
    start_time = run_started_at(run)
    if is_late(run, now):
        return "late", TerminalError(f"run {run} is too old: records are retained for {RECORD_RETENTION / DAY:g} days")
    if start_time is not None and start_time > now + HOUR:
        return "unknown", TerminalError(f"run {run} is unknown: by its id it starts in the future")
    ended = start_time is not None and start_time < now - MAX_DELAY
    if ended or now - given_at >= sum(RETRY_DELAYS):
        reason = f"run {run} is unknown: it has no record {now - given_at:.0f} s after the feedback was given"
        return "unknown", TerminalError(reason)
    return "early", RetryableError(f"run {run} has no record yet", retry_after=RETRY_DELAYS[0])
