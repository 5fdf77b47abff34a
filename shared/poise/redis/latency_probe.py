"""LatencyProbe: times one of the commands that are in flight, to find whether the server is slow."""

from types import TracebackType
from typing import Self

from poise.redis.loop_aware_timer import LoopAwareTimer


class LatencyProbe:
    """Times one command at a time: the one that begins when no other is timed.

    So a moment in which the server stands still counts once, however many commands were waiting; and a command is
    chosen before anybody knows how long it takes, so slow ones are met as often as there are.

    Args:
        slow: Seconds from which on a command is slow.
    """

    def __init__(self, slow: float) -> None:
        self.slow = slow
        self.busy = False

    def sample(self) -> "LatencySample":
        """Time a command with it, if none is timed now."""
        return LatencySample(self)


class LatencySample:
    """One command: `with sampler.sample() as sample: …; sample.slow`."""

    def __init__(self, sampler: LatencyProbe) -> None:
        self.slow = False
        """Whether it took too long."""
        self.timed = not sampler.busy
        """Whether it is the one that is timed."""
        self._sampler = sampler
        self._timer: LoopAwareTimer | None = None

    def __enter__(self) -> Self:
        if self.timed:
            self._sampler.busy = True
            self._timer = LoopAwareTimer(self._sampler.slow, self._late)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._sampler.busy = False

    def _late(self) -> None:
        self.slow = True
