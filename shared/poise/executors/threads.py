"""ThreadPool: a thread pool of daemon threads, so that a blocked thread does not keep the process alive."""

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
    """Runs functions in at most `size` threads, started on demand.

    The standard library's pool joins its threads before the interpreter exits, so a function that never returns would
    keep a worker from stopping.

    Args:
        size: Maximum number of threads.
        name: Prefix of the threads' names, for debuggers.
    """

    def __init__(self, size: int, name: str) -> None:
        self._size = size
        self._name = name
        self._work: SimpleQueue[_WorkItem | None] = SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._threads: list[threading.Thread] = []
        self._running: set[Future[Any]] = set()

    @property
    def busy(self) -> int:
        """The number of running functions, including those whose caller was cancelled."""
        return len(self._running)

    async def run(self, function: Callable[..., T], *arguments: object) -> T:
        """Run a function in a thread, with this task's context variables, so that spans nest.

        A cancelled call returns at once. If its function has not started, it never does. Otherwise it runs on, because
        a thread cannot be interrupted: it occupies its thread until it returns, and its result is dropped.
        """
        future: Future[T] = Future()
        self._work.put((future, partial(contextvars.copy_context().run, function, *arguments)))
        if not self._idle.acquire(blocking=False) and len(self._threads) < self._size:
            thread = threading.Thread(target=self._loop, name=f"{self._name}-{len(self._threads) + 1}", daemon=True)
            self._threads.append(thread)
            thread.start()
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Let idle threads end, and busy ones after their work; does not wait for them."""
        for _ in self._threads:
            self._work.put(_END)

    def _loop(self) -> None:
        while (item := self._work.get()) is not _END:
            future, function = item
            if future.set_running_or_notify_cancel():
                self._running.add(future)
                _complete(future, function)
                self._running.discard(future)
            del item, future, function  # otherwise the last result lives until the next item
            self._idle.release()


def _complete(future: "Future[Any]", function: Callable[[], Any]) -> None:
    try:
        result = function()
    except BaseException as error:  # noqa: BLE001 - the future's owner receives it
        future.set_exception(error if _is_safe_to_set(error) else _as_bug(error))
    else:
        future.set_result(result)


def _is_safe_to_set(error: BaseException) -> bool:
    """Return whether an error may be set on the future unchanged: `sys.exit()` in a handler must not end the worker."""
    return isinstance(error, Exception) and not isinstance(error, StopIteration | CancelledError)


def _as_bug(error: BaseException) -> RuntimeError:
    bug = RuntimeError(f"the function raised {error_with_type(error)}")
    bug.__cause__ = error
    return bug
