"""A thread pool that a blocked thread cannot hold up: its threads are daemons, and end with the process."""

import asyncio
import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from functools import partial
from queue import SimpleQueue
from typing import Any, Final, TypeVar

from poise.text.error_text import error_with_type

T = TypeVar("T")

_WorkItem = tuple["Future[Any]", Callable[[], Any]]

_END: Final = None


class ThreadPool:
    """Runs functions in at most `size` threads, started as they are needed.

    The standard library's pool joins its threads before the interpreter ends, so a function that never returns would
    keep a worker from stopping.

    Args:
        size: Threads at most.
        name: What they are called in a debugger.
    """

    def __init__(self, size: int, name: str) -> None:
        self._size = size
        self._name = name
        self._work: SimpleQueue[_WorkItem | None] = SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._threads: list[threading.Thread] = []
        self._begun: set[Future[Any]] = set()

    @property
    def busy(self) -> int:
        """How many functions are begun and have not returned, be it that nobody waits for them any more."""
        return len(self._begun)

    async def run(self, function: Callable[..., T], *arguments: object) -> T:
        """Run a function in a thread, with this task's context variables, so that spans nest.

        A cancelled call returns at once. If its function had not begun, it never does; else it runs on, for a thread
        cannot be interrupted: it keeps its place in the pool until it returns, and what it returns is dropped.
        """
        future: Future[T] = Future()
        self._work.put((future, partial(contextvars.copy_context().run, function, *arguments)))
        if not self._idle.acquire(blocking=False) and len(self._threads) < self._size:
            thread = threading.Thread(target=self._loop, name=f"{self._name}-{len(self._threads) + 1}", daemon=True)
            self._threads.append(thread)
            thread.start()
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Let the threads end when they have nothing more to do; waits for none."""
        for _ in self._threads:
            self._work.put(_END)

    def _loop(self) -> None:
        while (work := self._work.get()) is not _END:
            future, function = work
            if future.set_running_or_notify_cancel():
                self._begun.add(future)
                _complete(future, function)
                self._begun.discard(future)
            del work, future, function  # else the last result lives until the next work comes
            self._idle.release()


def _complete(future: "Future[Any]", function: Callable[[], Any]) -> None:
    try:
        result = function()
    except BaseException as error:  # noqa: BLE001 - whoever waits for the future owns it
        future.set_exception(error if _is_safe_to_set(error) else _as_bug(error))
    else:
        future.set_result(result)


def _is_safe_to_set(error: BaseException) -> bool:
    """Whether an error means the same to whoever awaits it: a `sys.exit()` in a handler must not end the worker."""
    return isinstance(error, Exception) and not isinstance(error, StopIteration | CancelledError)


def _as_bug(error: BaseException) -> RuntimeError:
    bug = RuntimeError(f"the function raised {error_with_type(error)}")
    bug.__cause__ = error
    return bug
