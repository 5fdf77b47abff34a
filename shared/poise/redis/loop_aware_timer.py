"""A timer that counts only the time in which the event loop runs."""

import asyncio
from collections.abc import Callable
from typing import Final

TICKS: Final = 5


class LoopAwareTimer:
    """Calls back after so many seconds in which the event loop was awake.

    A loop that was held up, by a handler or by a machine that has too much to do, finds the answer that came meanwhile
    together with the timer that says it is late. So time is counted in ticks, of which a turn passes one at most, and
    what has been read when the last one has passed counts.

    Args:
        seconds: How long.
        callback: Called once, unless `cancel` was.
    """

    def __init__(self, seconds: float, callback: Callable[[], object]) -> None:
        self._loop = asyncio.get_running_loop()
        self._tick = seconds / TICKS
        self._left = TICKS
        self._callback = callback
        self._next: asyncio.Handle = self._loop.call_later(self._tick, self._passed)

    def cancel(self) -> None:
        """Call back no more."""
        self._next.cancel()

    def _passed(self) -> None:
        self._left -= 1
        # The last is a turn: whoever has been sent an answer in this one goes on with it before that.
        self._next = (
            self._loop.call_later(self._tick, self._passed) if self._left else self._loop.call_soon(self._callback)
        )
