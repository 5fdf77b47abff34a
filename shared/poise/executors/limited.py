"""LimitedExecutor: processes large texts from outside in child processes with limits of time and memory.

A slow function blocks the event loop, and in a thread it holds the GIL. The functions of `poise.scoring` and of
retrieval take linear time, so this is a second line of defense: a large text does not delay others, and an excessive
one ends in one fault.
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
    """When work is large, and the limits of large work."""

    inline: int = 50_000
    """Up to this number of characters, work runs in the calling process: some 50 ms in the worst case."""
    seconds: float = 20.0
    """Seconds for one call, from when a process takes it."""
    megabytes: int = 1_024
    """Memory limit of a process in megabytes (on Linux)."""
    processes: int = 1


class LimitedExecutor:
    """Runs functions on small texts directly, and on large ones in a process that is started on first use.

    `async with` ends its processes.

    Args:
        limits: What is large, and its limits.
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
        """Return whether work on a text of this size runs in a process."""
        return size > self._limits.inline

    async def run(self, function: Callable[..., ResultT], *arguments: object, size: int) -> ResultT:
        """Run a function and return its result.

        Args:
            function: A function at the top level of its module. It, its arguments and its result must be picklable.
            arguments: Its arguments.
            size: The number of characters that it processes.

        Raises:
            WorkLimitError: It exceeded the limit of time or memory.
            RetryableError: Its process ended.
            RuntimeError: The work is large, and the executor was not entered, so nothing would end the process.
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
        value: ResultT = result
        return value

    def _exceeded(self, function: Callable[..., object], size: int, limit: str) -> WorkLimitError:
        name = getattr(function, "__name__", "work")
        return WorkLimitError(f"{name} of {size} characters exceeded {limit} and was stopped: send less text")


_DONE: Final = "done"
_OUT_OF_MEMORY: Final = "too much memory"


def _apply_limited(work: tuple[Callable[..., Any], tuple[object, ...], int]) -> tuple[str, Any]:
    """Run a function in the process with a memory limit."""
    function, arguments, megabytes = work
    resource.setrlimit(resource.RLIMIT_DATA, (megabytes * _MEGABYTE, resource.RLIM_INFINITY))
    try:
        return _DONE, function(*arguments)
    except MemoryError:
        return _OUT_OF_MEMORY, None
