"""Workflow: an async function of a run and a request, usable as a handler of any tier."""

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from poise.contracts.message import Message, Request
from poise.worker.context import Context
from poise.workflows.run import Run

RequestT = TypeVar("RequestT", bound=Request)  # type: ignore[type-arg]  # with any reply
ReplyT = TypeVar("ReplyT", bound=Message)

WorkflowFunction = Callable[[Run, RequestT], Awaitable[ReplyT]]


class Workflow(Generic[RequestT, ReplyT]):
    """A named workflow; called with a request and its context, it is a handler: `Tier("plans", {Plan: plan})`."""

    def __init__(self, name: str, function: WorkflowFunction[RequestT, ReplyT], version: int = 1) -> None:
        self.name = name
        self.function = function
        self.version = version

    def new_run(self, context: Context) -> Run:
        """Return the run that a message starts or continues."""
        label = f"workflow {self.name} version {self.version}"
        return Run(context, context.journal(self.name, str(self.version)), label)

    async def __call__(self, request: RequestT, context: Context) -> ReplyT:
        """Handle a request as a run.

        Raises:
            NonDeterminismError: The workflow's steps differ from the journal of an earlier execution.
        """
        run = self.new_run(context)
        return await run.execute(self._call_function(run, request))

    async def _call_function(self, run: Run, request: RequestT) -> ReplyT:
        return await self.function(run, request)


def workflow(
    name: str, *, version: int = 1
) -> Callable[[WorkflowFunction[RequestT, ReplyT]], Workflow[RequestT, ReplyT]]:
    """Turn a function into a workflow: `@workflow("answer") async def answer(run: Run, ask: Ask) -> Answer`.

    Args:
        name: The workflow's name.
        version: A new version has its own journal: runs in progress start over. Increase it when the steps, or their
            order, change.
    """
    return lambda function: Workflow(name, function, version)
