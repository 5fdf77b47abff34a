"""Supervisor: restarts one part of the stack when it ends, with backoff."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

from poise.errors import SetupError
from poise.stack.events import EventListener, StackEvent
from poise.stack.managed_process import ManagedProcess

INITIAL_BACKOFF: Final = 0.5
MAX_BACKOFF: Final = 30.0
STABLE_AFTER: Final = 60.0
"""Seconds after which a running part's earlier failures no longer count."""

_LINES: Final = 5


def backoff(deaths: int) -> float:
    """Return the seconds to wait before the restart of a part that has ended `deaths` times in a row before."""
    return float(min(MAX_BACKOFF, INITIAL_BACKOFF * 2.0 ** min(deaths, 16)))


class Supervisor:
    """Starts a part, and restarts it whenever it ends.

    Args:
        part: The supervised process.
        on_event: Called when it ends and when it serves again.
        on_change: Called when it becomes ready, and when it ends.
    """

    def __init__(self, part: ManagedProcess, on_event: EventListener, on_change: Callable[[], None]) -> None:
        self.part = part
        self.restarts = 0
        self._on_event = on_event
        self._on_change = on_change
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the part, and supervise it.

        Raises:
            SetupError: The first start fails.
        """
        began = time.monotonic()
        await self.part.start()
        self._on_event(StackEvent(self.part.name, "ready", self.part.address, time.monotonic() - began))
        self._on_change()
        self._task = asyncio.create_task(self._supervise(), name=f"supervise {self.part.name}")

    async def stop(self) -> None:
        """Stop supervising the part, then stop it."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        await self.part.stop()

    async def _supervise(self) -> None:
        deaths = 0
        while True:
            began = time.monotonic()
            code = await self.part.child.wait()
            deaths = 0 if time.monotonic() - began > STABLE_AFTER else deaths
            why = f"{self.part.title} ended with exit code {code}"
            while True:
                delay = backoff(deaths)
                deaths += 1
                self._report_failure(why, delay)
                await asyncio.sleep(delay)
                began = time.monotonic()
                try:
                    await self.part.start()
                except SetupError as error:
                    why = str(error)
                else:
                    break
            self.restarts += 1
            self._on_event(StackEvent(self.part.name, "ready", self.part.address, time.monotonic() - began))
            self._on_change()

    def _report_failure(self, why: str, delay: float) -> None:
        self.part.since = None
        last = "".join(f"\n    {line}" for line in self.part.child.tail(_LINES))
        self._on_event(
            StackEvent(self.part.name, "failed", f"{why}; restarting it in {delay:g} s (log: {self.part.log}){last}")
        )
        self._on_change()
