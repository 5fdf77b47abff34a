"""The parts of a process on a clock that a test puts forward."""

import asyncio

from poise.errors import SetupError
from poise.liveness import CHECK_INTERVAL, ENDS_AFTER, STALLS_AFTER, Liveness


class Clock:
    """A process's clock."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


class ProcessOnClock:
    """A process's parts, looked at every second of a clock of its own; its broker answers."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.liveness = Liveness(self.clock)
        self.liveness.broker(answers=True)

    def passes(self, seconds: float) -> SetupError | None:
        """Have so much time pass, in which no part makes a turn; returns why the process must end, if it must."""
        until = self.clock.now + seconds
        while self.clock.now < until:
            self.clock.now += CHECK_INTERVAL
            if (reason := self.liveness.check()) is not None:
                return reason
        return None

    def stands_still(self, name: str) -> None:
        """See that a part that makes no turn from now on makes the process not ready, then ends it, by its name."""
        assert self.passes(STALLS_AFTER + 1) is None
        assert self.liveness.conditions()[name] is False
        reason = self.passes(ENDS_AFTER)
        assert str(reason).startswith(f"{name} has stood still for"), reason

    async def goes_on(self, name: str) -> None:
        """See that a part makes turns of its own accord, and with them progress: a long time has passed."""
        self.clock.now += STALLS_AFTER + 1
        async with asyncio.timeout(20):
            while not self.liveness.conditions()[name]:  # noqa: ASYNC110 - what it looks at has no event
                await asyncio.sleep(0.01)
