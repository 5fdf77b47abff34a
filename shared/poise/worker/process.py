"""A process of the mesh: its log, its stop signal, and one clear line when it cannot start."""

import asyncio
import gc
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

from poise.errors import MissingTopicError, SetupError
from poise.text.log_lines import LineFormatter, escape_control

log = logging.getLogger(__name__)

REPEAT_INTERVAL: Final = 5.0
"""Seconds between two log lines of the same format from the Kafka client."""
RECANCEL_INTERVAL: Final = 1.0
"""Seconds after which a task that swallowed its cancellation is cancelled again."""
STARTUP_CANCEL_TIMEOUT: Final = 8.0
"""Seconds for a process that is stopped while it starts to close its resources, before it is killed: less than the ten
that Docker allows."""
EXIT_TIMEOUT: Final = 30.0
"""Seconds for a process that must end to close its resources, before it is killed: longer than the grace period of
messages in progress and the timeout for disconnecting together."""

_may_exit: ContextVar[bool] = ContextVar("ends", default=False)
"""Whether this process runs `run_until_stopped` and may exit; otherwise the mesh is embedded in another process."""


def exit_eventually(why: str) -> None:
    """Kill this process after `EXIT_TIMEOUT` unless it ends before: a hanging thread would keep it alive."""
    if _may_exit.get():
        _may_exit.set(False)
        timer = threading.Timer(EXIT_TIMEOUT, _exit, (why,))
        timer.daemon = True
        timer.start()


def _exit(why: str) -> None:
    threads = [thread.name for thread in threading.enumerate() if not thread.daemon]
    log.critical("%s: the process did not end within %g s, threads %s still run", why, EXIT_TIMEOUT, threads)
    os._exit(1)


class StopSignal:
    """Set by SIGTERM or SIGINT: accept no more work, finish the messages in progress, leave the groups."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def install(self) -> None:
        """Listen for the signals; a second one ends the process immediately, as users expect of Ctrl-C."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._received, loop, number)

    def _received(self, loop: asyncio.AbstractEventLoop, number: int) -> None:
        loop.add_signal_handler(number, os._exit, 128 + number)
        self.set()

    def set(self) -> None:
        """Request the stop."""
        self._event.set()

    async def wait(self) -> bool:
        """Wait until the stop is requested."""
        return await self._event.wait()


class RateLimitFilter(logging.Filter):
    """Limits the rate of a library's messages: aiokafka logs 300 lines a second while a broker is unavailable.

    Args:
        library: The prefix of the loggers' names.
        every: Seconds between two messages of the same format.
        clock: Returns the time, seconds.
    """

    def __init__(self, library: str, *, every: float, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(library)
        self._every = every
        self._clock = clock
        self._logged: dict[str, float] = {}
        self._suppressed: dict[str, int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to log the message; the number of suppressed similar messages is appended."""
        if not super().filter(record):
            return True
        form, now = str(record.msg), self._clock()
        if now - self._logged.get(form, -self._every) < self._every:
            self._suppressed[form] = self._suppressed.get(form, 0) + 1
            return False
        self._logged[form] = now
        if suppressed := self._suppressed.pop(form, 0):
            record.msg, record.args = f"{record.getMessage()} ({suppressed} similar messages suppressed)", ()
        return True


@contextmanager
def frozen_gc() -> Iterator[None]:
    """Exclude the present objects from garbage collection, inside the context.

    Imports and setup create some 350,000 objects that live as long as the process. Scanning them takes 25 ms, more than
    once a second under load, and blocks all other work: it adds a tail to the latencies.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


async def run_until_stopped(main: Callable[[], Coroutine[Any, Any, None]]) -> int:
    """Run main; until it listens for the signals itself, SIGTERM and SIGINT cancel it, so that it closes its resources.

    Returns:
        The exit code of the process.
    """
    _may_exit.set(True)
    loop, task, received = asyncio.get_running_loop(), asyncio.create_task(main()), list[int]()

    def cancel(number: int) -> None:
        received.append(number)
        task.cancel()
        loop.call_later(RECANCEL_INTERVAL, cancel, number)  # a library may have swallowed it
        if len(received) == 1:
            loop.call_later(STARTUP_CANCEL_TIMEOUT, os._exit, 128 + number)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, cancel, number)
    await asyncio.wait({task})
    if received:
        await asyncio.gather(task, return_exceptions=True)
        logging.getLogger(__name__).info("stopped while starting")
        return 128 + received[0]
    await task
    return 0


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a worker's main to its end; a SetupError or a missing topic becomes one line on stderr and exit code 1."""
    logging.basicConfig(level=os.environ.get("POISE_LOG_LEVEL", "INFO").upper(), stream=sys.stderr)
    for handler in logging.getLogger().handlers:
        handler.setFormatter(LineFormatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
        handler.addFilter(RateLimitFilter("aiokafka", every=REPEAT_INTERVAL))
    for noisy in ("aiokafka", "httpx2", "faststream"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        code = asyncio.run(run_until_stopped(main))
    except (MissingTopicError, SetupError) as error:  # a worker that starts does not wait for a topic
        sys.exit(f"poise: {escape_control(str(error))}")
    except Exception:
        log.critical("the process ends on an unexpected error", exc_info=True)
        sys.exit(1)
    if code:
        sys.exit(code)
