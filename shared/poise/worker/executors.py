"""Executors: run handlers outside the event loop, a plain function in a thread, a CPU-bound one in a process."""

import inspect
import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

from poise.contracts.message import Message
from poise.errors import SetupError
from poise.executors.processes import ProcessPool
from poise.executors.threads import ThreadPool
from poise.worker.context import Context, Handler

log = logging.getLogger(__name__)


class ExecutorHandler(ABC):
    """A handler that needs threads or processes; it can be called when `start_handlers` has given them to it."""

    function: Callable[..., Any]
    """The function of the user."""

    async def __call__(self, _request: Any, _context: Context) -> Message | None:
        """Raise: `WorkerRuntime.serve` replaces this placeholder by the started handler."""
        raise RuntimeError(
            f"{self.function!r} has no threads or processes yet: serve its tier, or call the function directly"
        )

    @abstractmethod
    def start(self, message_type: type[Message], threads: ThreadPool) -> AbstractAsyncContextManager[Handler]:
        """Return the handler with its threads or processes."""


class ThreadHandler(ExecutorHandler):
    """A plain function `(request, context) -> reply`, in a thread."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    @asynccontextmanager
    async def start(self, message_type: type[Message], threads: ThreadPool) -> AsyncIterator[Handler]:  # noqa: ARG002
        """Yield the handler, in threads of the tier's pool."""

        async def handle(request: Any, context: Context) -> Any:
            reply = await threads.run(self.function, request, context)
            # A wrapper around an async function is not recognized as async.
            return await reply if inspect.isawaitable(reply) else reply

        yield handle


class ProcessHandler(ExecutorHandler):
    """A plain function `(request) -> reply`, in dedicated processes; created by `in_processes`."""

    def __init__(self, function: Callable[[Any], Any], workers: int) -> None:
        self.function = function
        self.workers = workers

    def pool(self, message_type: type[Message]) -> ProcessPool:
        """Return a pool that is not started yet.

        Raises:
            SetupError: A process cannot import the function.
        """
        return ProcessPool(self.function, self.workers, (message_type,))

    @asynccontextmanager
    async def start(self, message_type: type[Message], threads: ThreadPool) -> AsyncIterator[Handler]:  # noqa: ARG002
        """Yield the handler, with its processes."""
        async with self.pool(message_type) as pool:

            async def handle(request: Any, context: Context) -> Any:
                return await pool.apply(request, urgent=context.lane == "interactive")

            yield handle


def in_processes(function: Callable[[Any], Any], *, workers: int) -> ProcessHandler:
    """Handle a type of message in processes, for CPU-bound work.

    If the deadline of a message passes, its process is killed, and another is started for the next message. If a
    process dies, its message fails with a RetryableError.

    Args:
        function: Takes the request alone and returns the reply; defined at the top level of its module.
        workers: The number of processes.

    Raises:
        SetupError: `workers` is not positive.
    """
    if workers < 1:
        raise SetupError(f"in_processes({function.__name__}, workers={workers}): workers must be 1 or more")
    return ProcessHandler(function, workers)


def as_handler(handler: Callable[..., Any] | ExecutorHandler) -> Handler:
    """Return an async handler; a plain function is wrapped in one that runs it in threads."""
    called = getattr(handler, "__call__", None)  # noqa: B004 - to see whether the method is async
    if isinstance(handler, ExecutorHandler) or any(map(inspect.iscoroutinefunction, (handler, called))):
        return handler
    return ThreadHandler(handler)


@asynccontextmanager
async def start_handlers(
    handlers: Mapping[type[Message], Handler], name: str, concurrency: int
) -> AsyncIterator[dict[type[Message], Handler]]:
    """Yield handlers with the threads and processes that they need, while the context is open.

    Args:
        handlers: By message type; not modified.
        name: The tier's name.
        concurrency: Messages handled at once.

    Raises:
        SetupError: A process does not start.
    """
    threads = ThreadPool(concurrency, name)
    try:
        async with AsyncExitStack() as stack:
            yield {
                message_type: await stack.enter_async_context(handler.start(message_type, threads))
                if isinstance(handler, ExecutorHandler)
                else handler
                for message_type, handler in handlers.items()
            }
    finally:
        if threads.busy:
            log.warning("%d handlers still run in threads; they end with the process", threads.busy)
        threads.close()
