"""Timeout: as `asyncio.timeout`, but a run that is begun again knows that it fired and does not wait for it again."""

import asyncio
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self


class Timeout:
    """`async with run.timeout(seconds):` cancels what is inside, and raises `TimeoutError`, when the time is over.

    Args:
        elapse: Ends when the time is over.
    """

    def __init__(self, elapse: Callable[[], Coroutine[Any, Any, object]]) -> None:
        self._elapse = elapse
        self._scope = asyncio.timeout(None)

    @property
    def expired(self) -> bool:
        """Whether it fired."""
        return self._scope.expired()

    async def __aenter__(self) -> Self:
        """The time begins."""
        await self._scope.__aenter__()
        self._timer = asyncio.ensure_future(self._elapse())
        self._timer.add_done_callback(self._fire)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """What is inside ended in time, or was cancelled."""
        try:
            if not self._timer.done():
                self._timer.cancel()
                await asyncio.wait({self._timer})
        except asyncio.CancelledError as cancelled:  # by its own timer, it may be, which was over in the same moment
            await self._scope.__aexit__(type(cancelled), cancelled, cancelled.__traceback__)
            raise
        await self._scope.__aexit__(kind, error, traceback)

    def _fire(self, timer: "asyncio.Future[object]") -> None:
        if not timer.cancelled() and timer.exception() is None:
            try:
                self._scope.reschedule(asyncio.get_running_loop().time())
            except RuntimeError:  # what is inside has ended, or was cancelled, in the same moment
                return
