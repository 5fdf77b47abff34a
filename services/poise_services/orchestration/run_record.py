"""The run record: a finished run as evaluation needs it, published to `poise.records`."""

import logging
import time
from typing import Final

from poise.contracts import Answer, Ask, Fault, RunRecord
from poise.contracts.topics import RECORDS
from poise.errors import PoiseError, RecordTooLargeError
from poise.worker.context import Context
from poise.workflows.run import Run
from poise.workflows.start_time import start_time
from poise_services.orchestration.record_size import shorten
from poise_services.orchestration.user_workflows import DEFAULT_WORKFLOW

log = logging.getLogger(__name__)

MAX_PASSAGE_CHARS: Final = 2_000
"""Maximum characters of each passage in a run record."""


async def publish(run: Run, workflow: str, ask: Ask, answer: Answer, context: Context) -> None:
    """Publish the record of a run that ended with an answer.

    Raises:
        EncodingError: A field of the record cannot be encoded as JSON.
        UnavailableError: The broker did not accept it.
    """
    record = shorten(build(run, workflow, ask, answer), await context.max_body_bytes(RECORDS))
    try:
        await run.publish(RECORDS, record, key=run.id)
    except RecordTooLargeError as error:  # even shortened: the topic's limit is too small, but the answer can be sent
        log.warning("run %s has no record: %s", run.id, error)


async def publish_fault(ask: Ask, context: Context, fault: Fault) -> None:
    """Publish the record of a run that ended with a fault; if that fails, the caller still receives the fault."""
    record = build_for_fault(context, ask.workflow or DEFAULT_WORKFLOW, ask, fault)
    try:
        await context.publish(RECORDS, shorten(record, await context.max_body_bytes(RECORDS)), key=context.run)
    except PoiseError as error:
        log.warning("run %s has no record of its fault, %s: %s", context.run, fault.type, error)


def build(run: Run, workflow: str, ask: Ask, answer: Answer) -> RunRecord:
    """Build the record of a run that ended with an answer."""
    annotations = run.annotations
    return RunRecord(
        run_id=run.id,
        workflow=workflow,
        tenant=run.tenant,
        question=ask.question,
        started=run.requested_at,
        finished=time.time(),
        answer=answer,
        draw=annotations.draw,
        cached=annotations.cached,
        generations=tuple(annotations.generations),
        steps=tuple(run.steps),
        passages=tuple(p.model_copy(update={"text": p.text[:MAX_PASSAGE_CHARS]}) for p in annotations.passages),
    )


def build_for_fault(context: Context, workflow: str, ask: Ask, fault: Fault) -> RunRecord:
    """Build the record of a run that ended with a fault; without a draw, because it says nothing about a variant."""
    now = time.time()
    return RunRecord(
        run_id=context.run,
        workflow=workflow,
        tenant=context.tenant,
        question=ask.question,
        started=start_time(context.written, now),
        finished=now,
        fault=fault,
    )
