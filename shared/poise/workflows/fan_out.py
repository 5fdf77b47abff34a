"""Fan-out: many calls, a bounded number of them under way at once, begun in their order."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from poise.contracts.message import ReplyT, Request
from poise.errors import NonDeterminismError, PoiseError

T = TypeVar("T")

Call = Callable[[Request[ReplyT]], Awaitable[ReplyT]]
Job = Callable[[], Awaitable[T]]


def raising(call: Call[ReplyT], request: Request[ReplyT]) -> Job[ReplyT]:
    """One call, whose error ends all."""
    return lambda: call(request)


def returning_errors(call: Call[ReplyT], request: Request[ReplyT]) -> Job[ReplyT | PoiseError]:
    """One call, whose error is its result."""

    async def work() -> ReplyT | PoiseError:
        try:
            return await call(request)
        except NonDeterminismError:
            raise
        except PoiseError as error:
            return error

    return work


async def run_bounded(works: Sequence[Job[T]], width: int) -> list[T]:
    """Do each, `width` at a time; the first error gives up the rest.

    Raises:
        ValueError: The width is not positive.
    """
    if width < 1:
        raise ValueError(f"width must be at least 1, not {width}")
    results: dict[int, T] = {}
    numbered = iter(enumerate(works))  # of all lanes: each takes what is next

    async def lane() -> None:
        for number, work in numbered:
            results[number] = await work()

    lanes = [asyncio.ensure_future(lane()) for _ in range(min(width, len(works)))]
    try:
        await asyncio.gather(*lanes)
    finally:
        for one in lanes:
            one.cancel()
        await asyncio.gather(*lanes, return_exceptions=True)
    return [results[number] for number in range(len(works))]
