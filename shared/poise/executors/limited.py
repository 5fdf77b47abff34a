"""Large work on texts from outside, in processes that are killed at a limit of time or memory.

What is slow on a text holds the event loop, and in a thread the GIL. The functions of `poise.scoring` and of retrieval
take linear time, so this is a second line: a large text holds up nobody meanwhile, and what takes too long after all
ends in one fault.
"""

import resource
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from poise.errors import WorkLimitError
from poise.executors.processes import ProcessPool

ResultT = TypeVar("ResultT")

_MEGABYTE: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class WorkLimits:
    """When work is large, and what it may take then."""

    inline: int = 50_000
    """Characters that are worked on in the caller's own process: some 50 ms at the worst."""
    seconds: float = 20.0
    """For one piece of work, from when a process takes it."""
    megabytes: int = 1_024
    """Of a process (on Linux)."""
    processes: int = 1


class LimitedExecutor:
    """Runs functions here while their texts are small, else in a process, which is started when one is first needed.

    `async with` it to have its processes ended.

    Args:
        limits: What is large, and what it may take.
    """

    def __init__(self, limits: WorkLimits | None = None) -> None:
        self._limits = limits or WorkLimits()
        self._pool = ProcessPool(_apply_limited, self._limits.processes, eager=False)
        self._entered = False

    async def __aenter__(self) -> Self:
        self._entered = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Kill the processes."""
        await self._pool.__aexit__(kind, error, traceback)

    def is_large(self, size: int) -> bool:
        """Whether so many characters are worked on in a process."""
        return size > self._limits.inline

    async def run(self, function: Callable[..., ResultT], *arguments: object, size: int) -> ResultT:
        """What a function returns.

        Args:
            function: Stands at the top level of its module; it, what it takes and what it returns can be pickled.
            arguments: What it takes.
            size: How many characters it works on.

        Raises:
            WorkLimitError: It took longer, or more memory, than it may.
            RetryableError: Its process ended.
            RuntimeError: The work is large, and nothing would end the process: the executor was not entered.
        """
        if not self.is_large(size):
            return function(*arguments)
        if not self._entered:
            raise RuntimeError("enter the executor before it starts a process: `async with LimitedExecutor() as …`")
        try:
            outcome, result = await self._pool.apply(
                (function, arguments, self._limits.megabytes), seconds=self._limits.seconds
            )
        except TimeoutError as error:
            raise self._exceeded(function, size, f"{self._limits.seconds:g} s") from error
        if outcome == _OUT_OF_MEMORY:
            raise self._exceeded(function, size, f"{self._limits.megabytes} MB")
        found: ResultT = result
        return found

    def _exceeded(self, function: Callable[..., object], size: int, limit: str) -> WorkLimitError:
        name = getattr(function, "__name__", "work")
        return WorkLimitError(f"{name} of {size} characters took more than {limit}: it is given up, send less text")


_DONE: Final = "done"
_OUT_OF_MEMORY: Final = "too much memory"


def _apply_limited(work: tuple[Callable[..., Any], tuple[object, ...], int]) -> tuple[str, Any]:
    """In the process: do a piece of work with so many megabytes."""
    function, arguments, megabytes = work
    resource.setrlimit(resource.RLIMIT_DATA, (megabytes * _MEGABYTE, resource.RLIM_INFINITY))
    try:
        return _DONE, function(*arguments)
    except MemoryError:
        return _OUT_OF_MEMORY, None
