"""Asks: each is a run of the workflow that it names, and leaves a record."""

from collections.abc import Iterable, Mapping

from poise.contracts import Answer, Ask, FieldError, Message
from poise.contracts.topics import RECORDS
from poise.errors import InvalidMessageError, TerminalError
from poise.messaging import Context, Handler
from poise.runs import Run, Workflow
from services.orchestration.recording import record_of

DEFAULT = "answer"
"""The workflow of an ask that names none."""


class Asks:
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
            InvalidMessageError: There is no workflow of that name.
            TerminalError: It returned something else than an answer.
            UnavailableError: The broker did not take the record.
        """
        name = ask.workflow or DEFAULT
        chosen = self._workflows.get(name)
        if chosen is None:
            known = ", ".join(self._workflows)
            detail = f"there is no workflow {name!r}, only {known}; others are named in [orchestration] workflows"
            raise InvalidMessageError(f"workflow: {detail}", [FieldError(field="workflow", detail=detail)])
        run = chosen.run(context)
        return await run.execute(_recorded(run, chosen, ask))


async def _recorded(run: Run, chosen: Workflow[Ask, Answer], ask: Ask) -> Answer:
    answer: object = await chosen.function(run, ask)
    if not isinstance(answer, Answer):  # its annotation says so, which nobody checked
        raise TerminalError(f"workflow {chosen.name!r} returned {type(answer).__name__}: return an Answer")
    await run.publish(RECORDS, record_of(run, chosen.name, ask, answer), key=run.id)
    return answer
