"""Recording: a finished run, whole, as evaluation needs it."""

import time

from poise.contracts import Answer, Ask, Fault, RunRecord
from poise.worker.context import Context
from poise.workflows.run import Run
from poise.workflows.start_time import start_time

MAX_PASSAGE_CHARACTERS = 2_000
"""Characters of each passage that a run's record keeps."""


def build(run: Run, workflow: str, ask: Ask, answer: Answer) -> RunRecord:
    """The record of a run that ended with an answer."""
    notes = run.notes
    return RunRecord(
        run_id=run.id,
        workflow=workflow,
        tenant=run.tenant,
        question=ask.question,
        started=run.started,
        finished=time.time(),
        answer=answer,
        draw=notes.draw,
        cached=notes.cached,
        generations=tuple(notes.generations),
        steps=tuple(run.steps),
        passages=tuple(p.model_copy(update={"text": p.text[:MAX_PASSAGE_CHARACTERS]}) for p in notes.passages),
    )


def build_for_fault(context: Context, workflow: str, ask: Ask, fault: Fault) -> RunRecord:
    """The record of a run that ended without an answer; it has no draw, for it says nothing of any variant."""
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
