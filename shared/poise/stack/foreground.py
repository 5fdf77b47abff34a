"""Run a stack in the foreground until a signal stops it."""

import asyncio
import signal
from collections.abc import Callable
from typing import Final

from poise.stack.stack import Stack

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


async def run_until_signal(stack: Stack, *, ready: Callable[[], None], stopping: Callable[[], None]) -> None:
    """Run a stack until SIGINT, SIGTERM or SIGHUP stops it; a second signal kills what still runs.

    Args:
        stack: Not yet started.
        ready: Called when the mesh answers.
        stopping: Called at the first signal.

    Raises:
        SetupError: It cannot be started.
    """
    stop_requested = asyncio.Event()

    def on_signal() -> None:
        if stop_requested.is_set():
            stack.kill()
        else:
            stop_requested.set()
            stopping()

    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        loop.add_signal_handler(number, on_signal)
    try:
        starting, waiting = asyncio.create_task(stack.start()), asyncio.create_task(stop_requested.wait())
        await asyncio.wait({starting, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if stop_requested.is_set():
            starting.cancel()
        await asyncio.wait({starting})
        if not starting.cancelled():
            starting.result()
            if not stop_requested.is_set():
                ready()
        await waiting
        await stack.stop()
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
