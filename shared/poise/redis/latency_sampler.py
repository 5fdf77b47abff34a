"""LatencySampler: times one command in flight at a time, to find whether the server is slow."""

from types import TracebackType
from typing import Self

from poise.redis.loop_aware_timer import LoopAwareTimer


class LatencySampler:
    """Times one command at a time: the next one that starts while none is timed.

    A pause of the server counts once, however many commands were waiting. A command is chosen before its duration is
    known, so the sample is not biased toward fast ones.

    Args:
        slow_after: Seconds above which a command is slow.
    """

    def __init__(self, slow_after: float) -> None:
        self.slow_after = slow_after
        self.busy = False

    def sample(self) -> "LatencySample":
        """Return a sample for a command, which is timed if no other is."""
        return LatencySample(self)


class LatencySample:
    """One command: `with sampler.sample() as sample: …; sample.slow`."""

    def __init__(self, sampler: LatencySampler) -> None:
        self.slow = False
        """Whether the command took longer than `slow_after`."""
        self.timed = not sampler.busy
        """Whether this command is timed."""
        self._sampler = sampler
        self._timer: LoopAwareTimer | None = None

    def __enter__(self) -> Self:
        if self.timed:
            self._sampler.busy = True
            self._timer = LoopAwareTimer(self._sampler.slow_after, self._mark_slow)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._sampler.busy = False

    def _mark_slow(self) -> None:
        self.slow = True
