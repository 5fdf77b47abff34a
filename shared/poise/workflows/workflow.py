"""Workflow: an async function of a run and a request, as a handler that any tier can have."""

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from poise.contracts.message import Message, Request
from poise.worker.context import Context
from poise.workflows.run import Run

RequestT = TypeVar("RequestT", bound=Request)  # type: ignore[type-arg]  # of whatever reply
AnswerT = TypeVar("AnswerT", bound=Message)

WorkflowFunction = Callable[[Run, RequestT], Awaitable[AnswerT]]


class Workflow(Generic[RequestT, AnswerT]):
    """A named workflow; called with a request and its context, it is a handler: `Tier("plans", {Plan: plan})`."""

    def __init__(self, name: str, function: WorkflowFunction[RequestT, AnswerT], version: int = 1) -> None:
        self.name = name
        self.function = function
        self.version = version

    def run(self, context: Context) -> Run:
        """The run that a message begins, or begins again."""
        named = f"workflow {self.name} version {self.version}"
        return Run(context, context.journal(self.name, str(self.version)), named)

    async def __call__(self, request: RequestT, context: Context) -> AnswerT:
        """Handle a request as a run of its own.

        Raises:
            NonDeterminismError: It was begun before, and did something else then.
        """
        run = self.run(context)
        return await run.execute(self._done(run, request))

    async def _done(self, run: Run, request: RequestT) -> AnswerT:
        return await self.function(run, request)


def workflow(
    name: str, *, version: int = 1
) -> Callable[[WorkflowFunction[RequestT, AnswerT]], Workflow[RequestT, AnswerT]]:
    """Make a workflow of a function: `@workflow("answer") async def answer(run: Run, ask: Ask) -> Answer`.

    Args:
        name: Its name.
        version: A new version has a history of its own: runs under way when it comes start over. Give it one when what
            the workflow asks for, or in which order, changes.
    """
    return lambda function: Workflow(name, function, version)
