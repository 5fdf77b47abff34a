"""Asks: each is a run of the workflow that it names, and leaves a record."""

import logging
from collections.abc import Iterable, Mapping

from poise.contracts import Answer, Ask, Fault, FieldError, Message
from poise.contracts.topics import RECORDS
from poise.errors import PoiseError, RecordTooLargeError, TerminalError, UnknownWorkflowError
from poise.rpc.encoding import encode
from poise.worker.context import Context, Handler
from poise.workflows.run import Run
from poise.workflows.workflow import Workflow
from poise_services.orchestration import run_record
from poise_services.orchestration.record_size import shorten

log = logging.getLogger(__name__)

DEFAULT_WORKFLOW = "answer"
"""The workflow of an ask that names none."""


class AskHandler:
    """Handles `Ask`.

    Args:
        workflows: Those that an ask may name.
    """

    def __init__(self, workflows: Iterable[Workflow[Ask, Answer]]) -> None:
        self._workflows = {one.name: one for one in workflows}

    def handlers(self) -> Mapping[type[Message], Handler]:
        """One handler by the type of message it takes."""
        return {Ask: self.answer}

    async def answer(self, ask: Ask, context: Context) -> Answer:
        """Answer an ask, publish the run's record, and return the answer.

        Raises:
            UnknownWorkflowError: There is no workflow of that name.
            EncodingError: The answer, or what its record says of the run, has a field that JSON has no form for.
            TerminalError: It returned something else than an answer, or a larger one than can be sent.
            UnavailableError: The broker did not take the record.
        """
        name = ask.workflow or DEFAULT_WORKFLOW
        chosen = self._workflows.get(name)
        if chosen is None:
            known = ", ".join(self._workflows)
            detail = f"there is no workflow {name!r}, only {known}; others are named in [orchestration] workflows"
            raise UnknownWorkflowError(f"workflow: {detail}", [FieldError(field="workflow", detail=detail)])
        run = chosen.run(context)
        return await run.execute(_recorded(run, chosen, ask, context))


async def record_fault(ask: Ask, context: Context, fault: Fault) -> None:
    """Leave the record of a run that ended without an answer; its caller is told though it cannot be written."""
    record = run_record.build_for_fault(context, ask.workflow or DEFAULT_WORKFLOW, ask, fault)
    try:
        await context.publish(RECORDS, shorten(record, await context.room(RECORDS)), key=context.run)
    except PoiseError as error:
        log.warning("run %s leaves no record of its fault, %s: %s", context.run, fault.type, error)


async def _recorded(run: Run, chosen: Workflow[Ask, Answer], ask: Ask, context: Context) -> Answer:
    answer: object = await chosen.function(run, ask)
    if not isinstance(answer, Answer):  # its annotation says so, which nobody checked
        raise TerminalError(f"workflow {chosen.name!r} returned {type(answer).__name__}: return an Answer")
    size, room = len(encode(answer)), await context.room()
    if size > room:
        told = f"workflow {chosen.name!r} returned an answer of {size} bytes, and {room} have room in a reply"
        raise TerminalError(f"{told}: return a shorter one")
    record = shorten(run_record.build(run, chosen.name, ask, answer), await context.room(RECORDS))
    try:
        await run.publish(RECORDS, record, key=run.id)
    except RecordTooLargeError as error:  # its topic takes next to nothing, which is no reason not to answer
        log.warning("run %s leaves no record: %s", run.id, error)
    return answer
