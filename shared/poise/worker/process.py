"""A process of the mesh: its log, its way to stop, and one clear line when it cannot start."""

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

from poise.errors import SetupError
from poise.text.log_lines import LineFormatter, escape_control

log = logging.getLogger(__name__)

REPEAT_INTERVAL: Final = 5.0
"""Seconds between two log lines of the same form from the Kafka client."""
RECANCEL_INTERVAL: Final = 1.0
STARTUP_CANCEL_TIMEOUT: Final = 8.0
"""Seconds in which a process that is asked to stop while it starts has closed what it has opened, or is ended without:
less than the ten that Docker gives it."""
EXIT_TIMEOUT: Final = 30.0
"""Seconds in which a process that must end for a part of it has closed what it has opened, or is ended without: longer
than the grace of what is begun and the time for disconnecting together."""

_may_exit: ContextVar[bool] = ContextVar("ends", default=False)
"""Whether this process runs `run_until_stopped` and may exit; otherwise the mesh is embedded in another process."""


def exit_eventually(why: str) -> None:
    """Have this process end soon, though what it has opened cannot be closed: a thread that hangs would keep it."""
    if _may_exit.get():
        _may_exit.set(False)
        timer = threading.Timer(EXIT_TIMEOUT, _exit, (why,))
        timer.daemon = True
        timer.start()


def _exit(why: str) -> None:
    threads = [thread.name for thread in threading.enumerate() if not thread.daemon]
    log.critical("%s: the process did not end by itself within %g s, threads %s go on", why, EXIT_TIMEOUT, threads)
    os._exit(1)


class StopSignal:
    """Set by SIGTERM or SIGINT: stop taking work, finish what is begun, leave."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def install(self) -> None:
        """Listen for the signals; a second one ends the process at once, as users expect of Ctrl-C."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._received, loop, number)

    def _received(self, loop: asyncio.AbstractEventLoop, number: int) -> None:
        loop.add_signal_handler(number, os._exit, 128 + number)
        self.set()

    def set(self) -> None:
        """Ask to stop."""
        self._event.set()

    async def wait(self) -> bool:
        """Wait until stop is asked."""
        return await self._event.wait()


class RateLimitFilter(logging.Filter):
    """Lets a message of a library through once in a while: aiokafka writes 300 lines a second while a broker is away.

    Args:
        library: The name that the loggers begin with.
        every: Seconds between two messages of the same form.
        clock: Tells the time, seconds.
    """

    def __init__(self, library: str, *, every: float, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(library)
        self._every = every
        self._clock = clock
        self._said: dict[str, float] = {}
        self._left_out: dict[str, int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to write the message, which then says how many like it were left out."""
        if not super().filter(record):
            return True
        form, now = str(record.msg), self._clock()
        if now - self._said.get(form, -self._every) < self._every:
            self._left_out[form] = self._left_out.get(form, 0) + 1
            return False
        self._said[form] = now
        if left_out := self._left_out.pop(form, 0):
            record.msg, record.args = f"{record.getMessage()} ({left_out} like it left out)", ()
        return True


@contextmanager
def frozen_gc() -> Iterator[None]:
    """Do the process's work with what is in memory now left alone by the garbage collector.

    What was imported and set up, some 350,000 objects, stays for as long as the process. To look through it again takes
    25 ms, more than once a second under load, in which nothing else is done: a tail of latencies of its own.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


async def run_until_stopped(main: Callable[[], Coroutine[Any, Any, None]]) -> int:
    """Run main; until it listens by itself, SIGTERM and SIGINT cancel it, so that what it has opened is closed.

    Returns:
        The process's exit code.
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
    """Run a worker's main to its end; a SetupError becomes one line on stderr and exit code 1."""
    logging.basicConfig(level=os.environ.get("POISE_LOG_LEVEL", "INFO").upper(), stream=sys.stderr)
    for handler in logging.getLogger().handlers:
        handler.setFormatter(LineFormatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
        handler.addFilter(RateLimitFilter("aiokafka", every=REPEAT_INTERVAL))
    for noisy in ("aiokafka", "httpx2", "faststream"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        code = asyncio.run(run_until_stopped(main))
    except SetupError as error:
        sys.exit(f"poise: {escape_control(str(error))}")
    except Exception:
        log.critical("the process ends on an error that nobody foresaw", exc_info=True)
        sys.exit(1)
    if code:
        sys.exit(code)
