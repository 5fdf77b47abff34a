"""A pool of processes for one CPU-bound function: each can be given up, and none outlives its parent.

The standard library's pool can neither interrupt what a process does nor lose one without failing all that is under
way, and its processes stay when their parent is killed.
"""

import asyncio
import heapq
import itertools
import os
import pickle
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from poise.errors import RetryableError, SetupError
from poise.executors.frames import DONE, LENGTH_BYTES, MAIN, encode_frame, main_module, unpickle_from_child

START_TIMEOUT: Final = 60.0
"""Seconds that a process has to load the function's module."""


class ProcessPool:
    """Applies one function in `size` processes of its own; `async with ProcessPool(parse, 2) as pool`.

    Args:
        function: Stands at the top level of a module that the processes can import; takes and returns what can be
            pickled.
        size: How many processes.
        takes: The types of what it takes, so that a process knows the module that they are from.
        eager: Start the processes on entering; else each when it is first needed.

    Raises:
        SetupError: The function cannot be found by a process that imports its module; on entering: a process did not
            start.
    """

    def __init__(
        self, function: Callable[[Any], Any], size: int, takes: tuple[type, ...] = (), *, eager: bool = True
    ) -> None:
        self._name = getattr(function, "__qualname__", repr(function))
        try:
            pickled = pickle.dumps((function, *takes))
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise SetupError(
                f"{self._name} cannot run in processes ({error}): define it at the top level of a module"
            ) from error
        self._introduction = pickle.dumps((main_module() if MAIN.encode() in pickled else None, pickled))
        self._size = size
        self._places = _IdleChildren()
        if not eager:
            self._places.give_unstarted(size)

    async def __aenter__(self) -> Self:
        """Start the processes."""
        began = await asyncio.gather(*(self._start() for _ in range(self._size)), return_exceptions=True)
        children = [child for child in began if isinstance(child, _Child)]
        for child in children:
            self._places.give(child)
        if failed := [error for error in began if isinstance(error, BaseException)]:
            await self._stop()
            error = failed[0]
            raise error if not isinstance(error, RetryableError) else SetupError(str(error)) from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Kill the processes; nobody may wait for them any more."""
        await self._stop()

    async def apply(self, argument: object, *, urgent: bool = True, seconds: float | None = None) -> Any:
        """Apply the function in a process that is free, and return what it returns.

        When the call is cancelled, its process is killed, and the next call starts another in its place.

        Args:
            argument: What the function is given.
            urgent: Comes before those that are not, where several wait for a process.
            seconds: That the function may take, from when a process takes it; None = as many as it likes.

        Raises:
            TimeoutError: It took longer, and its process was killed.
            RetryableError: The process ended before it had answered.
            Exception: What the function raised; its traceback there is the cause.
        """
        child = await self._places.take(urgent=urgent)
        try:
            if child is None or not child.alive:
                child = await self._start()
            async with asyncio.timeout(seconds):
                outcome, content = await child.ask(pickle.dumps(argument))
        except BaseException:  # cancelled, or it has ended: what it does next is not known
            self._places.give(None)
            if child is not None:
                await child.kill()
            raise
        self._places.give(child)
        found = unpickle_from_child(content)
        if outcome == DONE:
            return found
        error, told = found
        raise error from _ChildTraceback(told)

    async def _start(self) -> "_Child":
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-u",  # what the function prints is in the log at once
            "-P",  # nothing in the working directory may take a library's place
            "-m",
            "poise.executors.child",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,  # a Ctrl-C is the worker's: it lets begun work finish
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path)},
        )
        child = _Child(self._name, process)
        try:
            async with asyncio.timeout(START_TIMEOUT):
                await child.ask(self._introduction)
        except TimeoutError as error:
            await child.kill()
            raise RetryableError(f"a process for {self._name} did not start in {START_TIMEOUT:.0f} s") from error
        except BaseException:
            await child.kill()
            raise
        return child

    async def _stop(self) -> None:
        await asyncio.gather(*(child.kill() for child in self._places.leave()))


class _ChildTraceback(Exception):  # noqa: N818 - no error of its own: it is the cause of one
    """Carries the traceback that an error had in its process, so that a dead letter has it."""

    def __str__(self) -> str:
        return f"in its process:\n{self.args[0]}"


class _Child:
    """One process, and the pipes to it."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self._name = name
        self._process = process

    @property
    def alive(self) -> bool:
        return self._process.returncode is None

    async def ask(self, content: bytes) -> tuple[bytes, bytes]:
        """Send a frame and wait for the one that answers it.

        Raises:
            RetryableError: The process ended.
        """
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None  # noqa: S101 - for the type checker: both are pipes
        assert stdout is not None  # noqa: S101
        try:
            stdin.write(encode_frame(content))
            await stdin.drain()
            answer = await stdout.readexactly(int.from_bytes(await stdout.readexactly(LENGTH_BYTES)))
        except (ConnectionError, asyncio.IncompleteReadError) as error:
            code = await self._process.wait()
            how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
            raise RetryableError(f"the process of {self._name} {how}: its log is the worker's") from error
        return answer[:1], answer[1:]

    async def kill(self) -> None:
        """Kill it with everything it started, and wait until it is gone."""
        with suppress(ProcessLookupError):  # it ended by itself a moment ago
            os.killpg(self._process.pid, signal.SIGKILL)
        if self._process.stdin is not None:
            self._process.stdin.close()
        await self._process.wait()


class _IdleChildren:
    """The processes that are free; None stands for one that must be started first."""

    def __init__(self) -> None:
        self._free: list[_Child | None] = []
        self._waiting: list[tuple[bool, int, asyncio.Future[_Child | None]]] = []
        self._order = itertools.count()

    async def take(self, *, urgent: bool) -> _Child | None:
        if self._free:
            return self._free.pop()
        waiter: asyncio.Future[_Child | None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (not urgent, next(self._order), waiter))
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():  # given to us and cancelled in the same turn of the loop
                self.give(waiter.result())
            raise

    def give(self, child: _Child | None) -> None:
        while self._waiting:
            _, _, waiter = heapq.heappop(self._waiting)
            if not waiter.done():
                waiter.set_result(child)
                return
        self._free.append(child)

    def give_unstarted(self, number: int) -> None:
        for _ in range(number):
            self.give(None)

    def leave(self) -> list[_Child]:
        """Take all that are free, for good."""
        free, self._free = self._free, []
        return [child for child in free if child is not None]
