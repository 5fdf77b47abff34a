"""LoopAwareTimer: a timer that counts only the time in which the event loop runs."""

import asyncio
from collections.abc import Callable
from typing import Final

TICKS: Final = 5


class LoopAwareTimer:
    """Calls back after a number of seconds in which the event loop was not blocked.

    When a handler or an overloaded machine blocks the loop, the loop sees a reply that arrived meanwhile and the
    expired timeout in the same iteration. So time is counted in ticks, at most one per loop iteration, and a reply that
    was read by the last tick is in time.

    Args:
        seconds: The timeout.
        callback: Called once, unless `cancel` was called.
    """

    def __init__(self, seconds: float, callback: Callable[[], object]) -> None:
        self._loop = asyncio.get_running_loop()
        self._tick_seconds = seconds / TICKS
        self._ticks_left = TICKS
        self._callback = callback
        self._handle: asyncio.Handle = self._loop.call_later(self._tick_seconds, self._tick_passed)

    def cancel(self) -> None:
        """Do not call back."""
        self._handle.cancel()

    def _tick_passed(self) -> None:
        self._ticks_left -= 1
        # The callback runs one iteration after the last tick, so that a task whose reply was read in this iteration
        # resumes first.
        self._handle = (
            self._loop.call_later(self._tick_seconds, self._tick_passed)
            if self._ticks_left
            else self._loop.call_soon(self._callback)
        )
