"""ProcessPool: processes for one CPU-bound function; each call can be cancelled, and no process outlives its parent.

The standard library's pool cannot interrupt a running call, fails all calls when one process ends, and leaves its
processes running when their parent is killed.
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
"""Seconds that a process may take to load the function's module."""


class ProcessPool:
    """Applies one function in `size` processes; `async with ProcessPool(parse, 2) as pool`.

    Args:
        function: A function at the top level of an importable module; its argument and result must be picklable.
        size: The number of processes.
        argument_types: The types of its argument, so that a process imports their modules.
        eager: Start the processes on entering; otherwise each on first use.

    Raises:
        SetupError: The function cannot be imported by a process; on entering: a process did not start.
    """

    def __init__(
        self, function: Callable[[Any], Any], size: int, argument_types: tuple[type, ...] = (), *, eager: bool = True
    ) -> None:
        self._name = getattr(function, "__qualname__", repr(function))
        try:
            pickled = pickle.dumps((function, *argument_types))
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise SetupError(
                f"{self._name} cannot run in processes ({error}): define it at the top level of a module"
            ) from error
        self._setup_message = pickle.dumps((main_module() if MAIN.encode() in pickled else None, pickled))
        self._size = size
        self._idle = _IdleChildren()
        if not eager:
            self._idle.add_unstarted(size)

    async def __aenter__(self) -> Self:
        """Start the processes."""
        started = await asyncio.gather(*(self._start() for _ in range(self._size)), return_exceptions=True)
        children = [child for child in started if isinstance(child, _Child)]
        for child in children:
            self._idle.release(child)
        if failed := [error for error in started if isinstance(error, BaseException)]:
            await self._stop()
            error = failed[0]
            if isinstance(error, RetryableError):
                raise SetupError(str(error)) from error
            raise error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Kill the processes. No call may be in flight."""
        await self._stop()

    async def apply(self, argument: object, *, urgent: bool = True, seconds: float | None = None) -> Any:
        """Apply the function in an idle process, and return its result.

        When the call is cancelled, its process is killed, and the next call starts another.

        Args:
            argument: The function's argument.
            urgent: Takes precedence over non-urgent calls that wait for a process.
            seconds: Time limit of the function, from when a process takes the call; None = no limit.

        Raises:
            TimeoutError: The time limit was exceeded, and the process was killed.
            RetryableError: The process ended before it answered.
            Exception: The error that the function raised; its traceback in the process is the cause.
        """
        child = await self._idle.take(urgent=urgent)
        try:
            if child is None or not child.alive:
                child = await self._start()
            async with asyncio.timeout(seconds):
                outcome, content = await child.request(pickle.dumps(argument))
        except BaseException:  # cancelled or ended: the process is in an unknown state
            self._idle.release(None)
            if child is not None:
                await child.kill()
            raise
        self._idle.release(child)
        result = unpickle_from_child(content)
        if outcome == DONE:
            return result
        error, traceback_text = result
        raise error from _ChildTraceback(traceback_text)

    async def _start(self) -> "_Child":
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-u",  # unbuffered: the function's output appears in the log at once
            "-P",  # no module in the working directory may shadow a library
            "-m",
            "poise.executors.child",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C must reach the worker only, which finishes calls in flight
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path)},
        )
        child = _Child(self._name, process)
        try:
            async with asyncio.timeout(START_TIMEOUT):
                await child.request(self._setup_message)
        except TimeoutError as error:
            await child.kill()
            raise RetryableError(f"a process for {self._name} did not start in {START_TIMEOUT:.0f} s") from error
        except BaseException:
            await child.kill()
            raise
        return child

    async def _stop(self) -> None:
        await asyncio.gather(*(child.kill() for child in self._idle.take_all()))


class _ChildTraceback(Exception):  # noqa: N818 - only the cause of another error
    """Carries the traceback of an error in its process, so that a dead letter contains it."""

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

    async def request(self, content: bytes) -> tuple[bytes, bytes]:
        """Send a frame and return the frame that answers it.

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
            reason = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
            raise RetryableError(f"the process of {self._name} {reason}: its log is the worker's") from error
        return answer[:1], answer[1:]

    async def kill(self) -> None:
        """Kill its process group, and wait until it has ended."""
        with suppress(ProcessLookupError):  # it has just ended by itself
            os.killpg(self._process.pid, signal.SIGKILL)
        if self._process.stdin is not None:
            self._process.stdin.close()
        await self._process.wait()


class _IdleChildren:
    """The idle processes; None stands for one that must be started first."""

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
            if waiter.done() and not waiter.cancelled():  # granted and cancelled in the same loop iteration
                self.release(waiter.result())
            raise

    def release(self, child: _Child | None) -> None:
        while self._waiting:
            _, _, waiter = heapq.heappop(self._waiting)
            if not waiter.done():
                waiter.set_result(child)
                return
        self._free.append(child)

    def add_unstarted(self, number: int) -> None:
        for _ in range(number):
            self.release(None)

    def take_all(self) -> list[_Child]:
        """Remove and return all idle processes."""
        free, self._free = self._free, []
        return [child for child in free if child is not None]
