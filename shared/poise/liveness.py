"""Liveness: tracks whether the loops that a process depends on make progress, and when one of them ends the process.

A component is a loop without which the process would be silent or wrong: a log reader, a consumer, a producer, a
decider, a heartbeat. Each reports the turns of its loop:

    progress   it did work, or found that there was none
    blocked    something outside prevents progress (a topic is missing, a partition has no leader)

    no progress for `stalls_after`                      the process is not ready, and reports why
    no turn for `ends_after` while the broker answers   the process ends, and names the component
    it failed, or its task ended                        the process ends, and names the component and the error

Time in which the broker does not answer, or in which the process itself was suspended, does not count toward
`ends_after`: a restart would not help.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any, Final, TypeVar

from poise.errors import SetupError
from poise.telemetry import semconv
from poise.telemetry.metrics import Measurement
from poise.text.error_text import error_with_type

log = logging.getLogger(__name__)

T = TypeVar("T")

STALLS_AFTER: Final = 15.0
"""Seconds without progress after which a component makes the process not ready, by default."""
ENDS_AFTER: Final = 120.0
"""Seconds without a turn after which a component ends the process, by default."""
CHECK_INTERVAL: Final = 1.0
"""Seconds between two checks of the components."""
FROZEN_AFTER: Final = 5 * CHECK_INTERVAL
"""Seconds between two checks above which the process itself was suspended: by a signal, or by a blocked event loop."""


class Liveness:
    """The components of one process.

    Args:
        clock: Returns the time in seconds.
        on_fatal: Called with the reason each time a check finds that the process must end.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, *, on_fatal: Callable[[str], None] = lambda _: None
    ) -> None:
        self._clock = clock
        self._on_fatal = on_fatal
        self._components: list[Component] = []
        self._answering_since: float | None = None
        self._last_check: float | None = None
        self._stalled: set[Component] = set()
        self._failed = asyncio.Event()

    def component(
        self, name: str, *, stalls_after: float = STALLS_AFTER, ends_after: float = ENDS_AFTER
    ) -> "Component":
        """Add a component. It counts as having just made progress.

        Args:
            name: Its name in `/readyz`, in metrics and in the reason why the process ends.
            stalls_after: Seconds without progress after which the process is not ready.
            ends_after: Seconds without a turn, while the broker answers, after which the process ends.
        """
        component = Component(self, name, stalls_after, ends_after)
        self._components.append(component)
        return component

    def close(self, component: "Component") -> None:
        """Remove a component that ended normally."""
        if component in self._components:
            self._components.remove(component)
        self._stalled.discard(component)

    def failed(self, component: "Component") -> None:
        """Record that a component failed."""
        if component in self._components:
            trace = None if isinstance(component.failure, SetupError) else component.failure
            log.error("%s failed, so the process ends: %s", component.name, component.failure, exc_info=trace)
            self._failed.set()

    def now(self) -> float:
        """Return the time in seconds."""
        return self._clock()

    def record_broker(self, *, answering: bool) -> None:
        """Record whether the broker answered the last probe."""
        if not answering:
            self._answering_since = None
        elif self._answering_since is None:
            self._answering_since = self._clock()

    def conditions(self) -> dict[str, bool]:
        """Return whether each component makes progress, by name: a readiness condition."""
        now, healthy = self._clock(), {component.name: True for component in self._components}
        for component in self._components:
            healthy[component.name] &= not component.stalled(now)
        return healthy

    def ages(self) -> Iterator[Measurement]:
        """Yield the seconds since each component's last progress, for the gauge."""
        now = self._clock()
        for component in tuple(self._components):
            yield max(0.0, now - component.progressed_at), {semconv.COMPONENT: component.name}

    def check(self) -> SetupError | None:
        """Check every component, log changes, and return why the process must end; None if it need not."""
        now = self._clock()
        if self._last_check is not None and now - self._last_check > FROZEN_AFTER and self._answering_since is not None:
            self._answering_since = now
        self._last_check = now
        for component in self._components:
            self._log_change(component, now)
        for component in self._components:
            if (reason := component.fatal_reason(now, self._answering_since)) is not None:
                error = SetupError(f"{component.name} {reason}")
                self._on_fatal(str(error))
                return error
        return None

    def _log_change(self, component: "Component", now: float) -> None:
        stalled = component.stalled(now)
        if stalled and component not in self._stalled:
            self._stalled.add(component)
            why = component.blocked_by or "no known cause"
            log.warning(
                "%s made no progress for %.0f s, not ready: %s", component.name, now - component.progressed_at, why
            )
        elif not stalled and component in self._stalled:
            self._stalled.discard(component)
            log.info("%s makes progress again", component.name)

    async def watch(self) -> None:
        """Watch the components until one of them ends the process.

        Raises:
            SetupError: A component failed or has stopped; the message names it and the cause.
        """
        while (reason := self.check()) is None:
            try:
                async with asyncio.timeout(CHECK_INTERVAL):
                    await self._failed.wait()
            except TimeoutError:
                continue
        raise reason

    async def watch_while(self, work: Awaitable[T]) -> T:
        """Await `work` and watch the components meanwhile.

        Raises:
            SetupError: A component failed or has stopped; the message names it and the cause.
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
    """One component, created by `Liveness.component`; `close` ends it normally."""

    def __init__(self, liveness: Liveness, name: str, stalls_after: float, ends_after: float) -> None:
        self.name = name
        self.stalls_after = stalls_after
        self.ends_after = ends_after
        self.progressed_at = self._active_at = liveness.now()
        self.blocked_by: str | None = None
        """What prevents progress, as of the last turn; None = nothing."""
        self.failure: BaseException | None = None
        """The error that ended it permanently."""
        self._liveness = liveness
        self._closed = False

    def progress(self) -> None:
        """Record a turn that did work or found that there was none."""
        self.progressed_at = self._active_at = self._liveness.now()
        self.blocked_by = None

    def report_blocked(self, reason: str) -> None:
        """Record a turn without progress for an outside cause: the process becomes not ready, but does not end."""
        self._active_at = self._liveness.now()
        self.blocked_by = reason

    def fail(self, error: BaseException) -> None:
        """Record that it ended permanently, which ends the process. Only the first error counts."""
        if self.failure is None and not self._closed:
            self.failure = error
            self._liveness.failed(self)

    def close(self) -> None:
        """Record that it ended normally."""
        self._closed = True
        self._liveness.close(self)

    def run(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Start the component's loop as a task. Any end of the task before `close` counts as a failure."""
        task = asyncio.create_task(work)
        task.add_done_callback(self._on_task_end)
        return task

    def _on_task_end(self, task: asyncio.Task[Any]) -> None:
        if task.cancelled():
            self.fail(RuntimeError("its task was cancelled unexpectedly"))
        else:
            self.fail(task.exception() or RuntimeError("its task has returned"))

    def stalled(self, now: float) -> bool:
        """Return whether it failed, or made no progress for longer than `stalls_after`."""
        return self.failure is not None or now - self.progressed_at > self.stalls_after

    def fatal_reason(self, now: float, answering_since: float | None) -> str | None:
        """Return why the process must end because of this component; None if it need not.

        Args:
            now: The time in seconds.
            answering_since: Since when the broker answers; None = it does not.
        """
        if (failure := self.failure) is not None:
            return f"has failed: {_failure_text(failure)}"
        if answering_since is None:
            return None
        idle = now - max(self._active_at, answering_since)
        if idle <= self.ends_after:
            return None
        why = f": {self.blocked_by}" if self.blocked_by else ""
        return f"has made no progress for {idle:.0f} s although the broker answers{why}"


def _failure_text(error: BaseException) -> str:
    return str(error) if isinstance(error, SetupError) else error_with_type(error)
