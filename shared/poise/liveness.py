"""Liveness: whether each part of a process that must go on does so, and what ends the process when one does not.

A part is a loop without which the process would be silent or wrong: a reader of a log, a consumer, a producer, a
decider, a heartbeat. Each tells of its real turns:

    progress   it did its work, or saw that there is none
    waiting    something outside stands in its way (a topic is missing, a partition has no leader)
    stumbled   a bug of this process ended its work, which is started again: counts as no turn

    no progress for `stalls_after`                              the process is not ready, and says why
    neither of the two for `ends_after`, the broker answering   the process ends, with the part's name
    failed, or its task is over                                 the process ends, with the part's name and the error

Time in which the broker is away, or the process itself stood still, does not count towards the end: a restart would
help neither.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any, Final, TypeVar

from poise.errors import SetupError
from poise.telemetry import semconv
from poise.telemetry.metrics import Observation
from poise.text.error_text import error_with_type

log = logging.getLogger(__name__)

T = TypeVar("T")

STALLS_AFTER: Final = 15.0
"""Seconds without progress after which a part makes the process not ready, where nothing else is said."""
ENDS_AFTER: Final = 120.0
"""Seconds without a turn after which a part ends the process, where nothing else is said."""
CHECK_INTERVAL: Final = 1.0
"""Seconds between two looks at the parts."""
FROZEN_AFTER: Final = 5 * CHECK_INTERVAL
"""Seconds between two looks after which the process itself stood still: stopped by a signal, or its event loop held."""


class Liveness:
    """The parts of one process.

    Args:
        clock: Tells the time, seconds.
        ending: Told why the process must end, each time that this is found.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, *, ending: Callable[[str], None] = lambda _: None
    ) -> None:
        self._clock = clock
        self._ending = ending
        self._parts: list[Component] = []
        self._answering_since: float | None = None
        self._looked: float | None = None
        self._stalled: set[Component] = set()
        self._failed = asyncio.Event()

    def component(
        self, name: str, *, stalls_after: float = STALLS_AFTER, ends_after: float = ENDS_AFTER
    ) -> "Component":
        """A new part, which has just made progress.

        Args:
            name: What it is called in `/readyz`, in metrics and in the reason why the process ends.
            stalls_after: Seconds without progress after which the process is not ready.
            ends_after: Seconds without a turn, the broker answering, after which the process ends.
        """
        part = Component(self, name, stalls_after, ends_after)
        self._parts.append(part)
        return part

    def close(self, part: "Component") -> None:
        """Forget a part that has ended in good order."""
        if part in self._parts:
            self._parts.remove(part)
        self._stalled.discard(part)

    def failed(self, part: "Component") -> None:
        """Hear of a part that has failed."""
        if part in self._parts:
            trace = None if isinstance(part.failure, SetupError) else part.failure
            log.error("%s has failed, and the process with it: %s", part.name, part.failure, exc_info=trace)
            self._failed.set()

    def now(self) -> float:
        """The time, seconds."""
        return self._clock()

    def broker(self, *, answers: bool) -> None:
        """Note whether the broker answered when it was last asked."""
        if not answers:
            self._answering_since = None
        elif self._answering_since is None:
            self._answering_since = self._clock()

    def conditions(self) -> dict[str, bool]:
        """By name of the parts, whether each goes on: a condition of being ready."""
        now, found = self._clock(), {part.name: True for part in self._parts}
        for part in self._parts:
            found[part.name] &= not part.stalled(now)
        return found

    def ages(self) -> Iterator[Observation]:
        """The seconds since each part's last progress, for the gauge."""
        now = self._clock()
        for part in tuple(self._parts):
            yield max(0.0, now - part.progressed), {semconv.COMPONENT: part.name}

    def check(self) -> SetupError | None:
        """Look at every part, tell operators what changed, and find the reason for which the process must end."""
        now = self._clock()
        if self._looked is not None and now - self._looked > FROZEN_AFTER and self._answering_since is not None:
            self._answering_since = now
        self._looked = now
        for part in self._parts:
            self._tell(part, now)
        for part in self._parts:
            if (reason := part.ended(now, self._answering_since)) is not None:
                error = SetupError(f"{part.name} {reason}")
                self._ending(str(error))
                return error
        return None

    def _tell(self, part: "Component", now: float) -> None:
        stalled = part.stalled(now)
        if stalled and part not in self._stalled:
            self._stalled.add(part)
            why = part.waits_for or "nothing is known to be in its way"
            log.warning("%s made no progress for %.0f s, not ready: %s", part.name, now - part.progressed, why)
        elif not stalled and part in self._stalled:
            self._stalled.discard(part)
            log.info("%s goes on", part.name)

    async def watch(self) -> None:
        """Watch the parts for as long as the process runs.

        Raises:
            SetupError: One of them failed, or stands still; the message names it and says why.
        """
        while (reason := self.check()) is None:
            try:
                async with asyncio.timeout(CHECK_INTERVAL):
                    await self._failed.wait()
            except TimeoutError:
                continue
        raise reason

    async def watch_while(self, work: Awaitable[T]) -> T:
        """Wait for something, and watch the parts meanwhile.

        Raises:
            SetupError: A part failed, or stands still; the message names it and says why.
        """
        awaited, watching = asyncio.ensure_future(work), asyncio.create_task(self.watch())
        try:
            await asyncio.wait({awaited, watching}, return_when=asyncio.FIRST_COMPLETED)
            if watching.done():
                await watching
            return await awaited
        finally:
            awaited.cancel()
            watching.cancel()


class Component:
    """One part; `Liveness.part` makes it, `close` ends it in good order."""

    def __init__(self, liveness: Liveness, name: str, stalls_after: float, ends_after: float) -> None:
        self.name = name
        self.stalls_after = stalls_after
        self.ends_after = ends_after
        self.progressed = self._turned = liveness.now()
        self.waits_for: str | None = None
        """What stands in its way, as its last turn found it; None = nothing."""
        self.failure: BaseException | None = None
        """What it ended with for good."""
        self._liveness = liveness
        self._closed = False

    def progress(self) -> None:
        """Note a real turn: work was done, or there was none."""
        self.progressed = self._turned = self._liveness.now()
        self.waits_for = None

    def wait(self, reason: str) -> None:
        """Note a turn that something outside kept from progress: not ready after a while, but no reason to end."""
        self._turned = self._liveness.now()
        self.waits_for = reason

    def report_bug(self, error: BaseException, *, since: float) -> None:
        """Note that its work failed by a fault of this process: whatever it did since counts as no turn.

        Args:
            error: What it failed with.
            since: `progressed`, as it was before the first of such failures in a row.
        """
        self.progressed = self._turned = since
        self.waits_for = error_with_type(error)

    def fail(self, error: BaseException) -> None:
        """Note that it has ended for good, which ends the process; the first error counts."""
        if self.failure is None and not self._closed:
            self.failure = error
            self._liveness.failed(self)

    def close(self) -> None:
        """Note that it ends in good order."""
        self._closed = True
        self._liveness.close(self)

    def run(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """A task for the part's loop: that it is over before the part was closed is a failure, however it ended."""
        task = asyncio.create_task(work)
        task.add_done_callback(self._over)
        return task

    def _over(self, task: asyncio.Task[Any]) -> None:
        if task.cancelled():
            self.fail(RuntimeError("its task was cancelled by nobody who may"))
        else:
            self.fail(task.exception() or RuntimeError("its task has returned"))

    def stalled(self, now: float) -> bool:
        """Whether it failed, or made no progress for longer than it may."""
        return self.failure is not None or now - self.progressed > self.stalls_after

    def ended(self, now: float, answering_since: float | None) -> str | None:
        """Why the process must end for it; None = it need not.

        Args:
            now: The time.
            answering_since: Since when the broker answers; None = it does not.
        """
        if (failure := self.failure) is not None:
            return f"has failed: {_failure_text(failure)}"
        if answering_since is None:
            return None
        still = now - max(self._turned, answering_since)
        if still <= self.ends_after:
            return None
        why = f": {self.waits_for}" if self.waits_for else ""
        return f"has stood still for {still:.0f} s although the broker answers{why}"


def _failure_text(error: BaseException) -> str:
    return str(error) if isinstance(error, SetupError) else error_with_type(error)
