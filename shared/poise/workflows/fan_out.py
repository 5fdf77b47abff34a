"""Fan-out: many calls with bounded concurrency, started in order."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from poise.contracts.message import ReplyT, Request
from poise.errors import CallError, HandlerError, PoiseError, TransportError

T = TypeVar("T")

Call = Callable[[Request[ReplyT]], Awaitable[ReplyT]]
Job = Callable[[], Awaitable[T]]


def raising(call: Call[ReplyT], request: Request[ReplyT]) -> Job[ReplyT]:
    """Return a job that makes one call and raises its error."""
    return lambda: call(request)


def returning_errors(call: Call[ReplyT], request: Request[ReplyT]) -> Job[ReplyT | PoiseError]:
    """Return a job that makes one call and returns its error as its result."""

    async def work() -> ReplyT | PoiseError:
        try:
            return await call(request)
        except (HandlerError, TransportError, CallError) as error:
            return error

    return work


async def run_bounded(jobs: Sequence[Job[T]], width: int) -> list[T]:
    """Run the jobs, `width` at a time, and return their results in order; the first error cancels the rest.

    Raises:
        ValueError: `width` is not positive.
    """
    if width < 1:
        raise ValueError(f"width must be at least 1, not {width}")
    results: dict[int, T] = {}
    numbered = iter(enumerate(jobs))  # shared: each worker takes the next job

    async def work_through() -> None:
        for number, work in numbered:
            results[number] = await work()

    workers = [asyncio.ensure_future(work_through()) for _ in range(min(width, len(jobs)))]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
    return [results[number] for number in range(len(jobs))]
