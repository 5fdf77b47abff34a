"""A process of the mesh: its log, its way to stop, and one clear line when it cannot start."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from poise.errors import SetupError


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
        loop.remove_signal_handler(number)
        self.set()

    def set(self) -> None:
        """Ask to stop."""
        self._event.set()

    async def wait(self) -> bool:
        """Wait until stop is asked."""
        return await self._event.wait()


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a worker's main to its end; a SetupError becomes one line on stderr and exit code 1."""
    logging.basicConfig(
        level=os.environ.get("POISE_LOG_LEVEL", "INFO").upper(),
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
        stream=sys.stderr,
    )
    for noisy in ("aiokafka", "httpx2", "faststream"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        asyncio.run(main())
    except SetupError as error:
        sys.exit(f"poise: {error}")
