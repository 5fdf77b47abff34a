"""A `Liveness` on a clock that a test advances."""

import asyncio

from poise.errors import SetupError
from poise.liveness import CHECK_INTERVAL, ENDS_AFTER, STALLS_AFTER, Liveness


class Clock:
    """A monotonic clock, advanced by hand."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


class ProcessOnClock:
    """The components of a process whose broker answers, checked every second of a manual clock."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.liveness = Liveness(self.clock)
        self.liveness.record_broker(answering=True)

    def advance(self, seconds: float) -> SetupError | None:
        """Advance the clock without any component's turn; return why the process must end, if it must."""
        until = self.clock.now + seconds
        while self.clock.now < until:
            self.clock.now += CHECK_INTERVAL
            if (reason := self.liveness.check()) is not None:
                return reason
        return None

    def assert_stall_ends_process(self, name: str) -> None:
        """Assert that a component without turns makes the process not ready, then ends it, by its name."""
        assert self.advance(STALLS_AFTER + 1) is None
        assert self.liveness.conditions()[name] is False
        reason = self.advance(ENDS_AFTER)
        assert str(reason).startswith(f"{name} has made no progress for"), reason

    async def assert_makes_progress(self, name: str) -> None:
        """Assert that a component makes progress by itself after a long time has passed."""
        self.clock.now += STALLS_AFTER + 1
        async with asyncio.timeout(20):
            while not self.liveness.conditions()[name]:  # noqa: ASYNC110 - conditions have no event
                await asyncio.sleep(0.01)
