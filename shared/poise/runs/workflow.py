"""Workflow: an async function of a run and a request, as a handler that any tier can have."""

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from poise.contracts.message import Message, Request
from poise.messaging import Context
from poise.runs.run import Run

RequestT = TypeVar("RequestT", bound=Request)  # type: ignore[type-arg]  # of whatever reply
AnswerT = TypeVar("AnswerT", bound=Message)

Function = Callable[[Run, RequestT], Awaitable[AnswerT]]


class Workflow(Generic[RequestT, AnswerT]):
    """A named workflow; called with a request and its context, it is a handler: `Tier("plans", {Plan: plan})`."""

    def __init__(self, name: str, function: Function[RequestT, AnswerT]) -> None:
        self.name = name
        self.function = function

    async def __call__(self, request: RequestT, context: Context) -> AnswerT:
        """Handle a request as a run of its own."""
        return await self.function(Run(context), request)


def workflow(name: str) -> Callable[[Function[RequestT, AnswerT]], Workflow[RequestT, AnswerT]]:
    """Make a workflow of a function: `@workflow("answer") async def answer(run: Run, ask: Ask) -> Answer`."""
    return lambda function: Workflow(name, function)
