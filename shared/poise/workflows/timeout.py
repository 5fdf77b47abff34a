"""Timeout: like `asyncio.timeout`, but journaled: a replayed run does not wait again for a timeout that fired."""

import asyncio
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self


class Timeout:
    """`async with run.timeout(seconds):` cancels its block when the time is over, and raises `TimeoutError`.

    Args:
        elapse: Returns when the time is over.
    """

    def __init__(self, elapse: Callable[[], Coroutine[Any, Any, object]]) -> None:
        self._elapse = elapse
        self._scope = asyncio.timeout(None)

    @property
    def expired(self) -> bool:
        """Whether it fired."""
        return self._scope.expired()

    async def __aenter__(self) -> Self:
        """Start the timer."""
        await self._scope.__aenter__()
        self._timer = asyncio.ensure_future(self._elapse())
        self._timer.add_done_callback(self._fire)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop the timer, or raise `TimeoutError` if it fired."""
        try:
            if not self._timer.done():
                self._timer.cancel()
                await asyncio.wait({self._timer})
        except asyncio.CancelledError as cancelled:  # possibly by this timer, which fired in the same iteration
            await self._scope.__aexit__(type(cancelled), cancelled, cancelled.__traceback__)
            raise
        await self._scope.__aexit__(kind, error, traceback)

    def _fire(self, timer: "asyncio.Future[object]") -> None:
        if not timer.cancelled() and timer.exception() is None:
            try:
                self._scope.reschedule(asyncio.get_running_loop().time())
            except RuntimeError:  # the block ended or was cancelled in the same iteration
                return
