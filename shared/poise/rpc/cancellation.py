"""Cancels: what nobody wants any more, told to every worker by `poise.cancel` and remembered until its deadline.

Withdrawn is not interrupted. *Withdrawn* work is finished: its caller has gone, so it is committed, answered with the
fault `urn:poise:cancelled`, and never done again. *Interrupted* work (the worker stops) is not: another worker does it,
so the calls that it was waiting for are not cancelled.

A cancel and what it cancels stand in different topics, so either may come first. A whole run is cancelled for good. A
step is cancelled as it was called until then: a caller may give up a call and make it again, under the same name.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, AsyncExitStack, nullcontext
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Final, Protocol, Self

from poise.contracts.cancel import Cancel
from poise.contracts.envelope import Envelope
from poise.contracts.message import Message, Request
from poise.contracts.run_id import ROOT_STEP, derive_run_id
from poise.contracts.topics import BATCH, CANCEL
from poise.errors import PoiseError, RunCancelledError
from poise.kafka.log_reader import LogAccess, LogReader
from poise.kafka.record import Position, Record
from poise.rpc.calls import OutgoingCall
from poise.rpc.cancel_memory import CancelKey, RecentCancels
from poise.settings import MeshSettings

log = logging.getLogger(__name__)

CATCH_UP_TIMEOUT: Final = 60.0
FLUSH_TIMEOUT: Final = 2.0
"""Seconds that a process which leaves gives its last cancels to reach the broker."""
RECANCEL_INTERVAL: Final = 5.0
"""Seconds after which a handler that has not stopped is cancelled again, and named in the log."""
MAX_RECANCELS: Final = 3
"""How often."""

_current_scope: ContextVar["CancelScope | None"] = ContextVar("watch", default=None)


class RequestContext(Protocol):
    """What identifies the work on one message."""

    @property
    def tenant(self) -> str: ...
    @property
    def run(self) -> str: ...
    @property
    def step(self) -> str: ...
    @property
    def written(self) -> float:
        """When the message was written, Unix seconds."""

    @property
    def envelope(self) -> Envelope: ...


class CancellationRegistry:
    """The cancels of one process: those it sends, and, in a worker (`async with`), those it obeys.

    Args:
        logs: How `poise.cancel` is read.
        settings: Whose runs a client cancels, and how far clocks differ.
        publish: Publishes a cancel and waits until the broker has it.
    """

    def __init__(
        self, logs: LogAccess, settings: MeshSettings, publish: Callable[[Cancel], Awaitable[Position]]
    ) -> None:
        self.leaving = False
        """The worker stops: what is cancelled from now on may be interrupted, and is wanted all the same."""
        self._tenant = settings.tenant
        self._skew = settings.clock_skew
        self._publish = publish
        self._telling: set[asyncio.Task[None]] = set()
        self._logs = logs
        self._reading = AsyncExitStack()
        self._known = RecentCancels()
        self._watches: dict[tuple[str, str], set[CancelScope]] = {}

    # -- obeying --------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Read what was cancelled so far, then follow.

        Raises:
            SetupError: It cannot be read.
        """
        # From one longest deadline back, that of the batch lane: what was cancelled earlier has expired. What is known
        # stays known, whatever becomes of the topic: that somebody did not want it holds all the same.
        start = time.time() - BATCH.longest - self._skew
        async with AsyncExitStack() as stack:
            reader = await stack.enter_async_context(LogReader(self._logs, CANCEL.name, self._apply, start=start))
            await reader.wait_until_at_end(CATCH_UP_TIMEOUT)
            self._reading = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Follow no more."""
        await self._reading.aclose()

    def _apply(self, record: Record) -> None:
        self._take(record, time.time())

    def _take(self, record: Record, now: float) -> None:
        cancel = Cancel.parse(record.value or b"")
        until = min(cancel.deadline / 1_000, min(record.timestamp, now) + BATCH.longest) + self._skew
        if until < now:
            return
        cancelled = CancelKey(cancel.tenant, cancel.run, cancel.step)
        if self._known.remember(cancelled, until=until, at=record.timestamp, now=now):
            log.warning("more cancels at once than are remembered: one is forgotten before its deadline")
        for watch in tuple(self._watches.get((cancel.tenant, cancel.run), ())):
            if self.covers(watch.context):
                watch.withdraw()

    def covers(self, context: RequestContext) -> bool:
        """Whether a message was withdrawn."""
        if not len(self._known):
            return False
        written, tenant, run = context.written, context.tenant, context.run
        if self._at(tenant, run, None) >= (written if context.envelope.redrives else 0.0):
            return True
        return self._at(tenant, run, context.step) >= written

    def _at(self, tenant: str, run: str, step: str | None) -> float:
        """When that was cancelled, unix seconds; -1 = it was not, or so long ago that it does not matter."""
        return self._known.at(CancelKey(tenant, run, step), time.time())

    def watching(self, request: Message, context: RequestContext) -> AbstractContextManager[object]:
        """Do a message's work for as long as it is wanted.

        Raises:
            RunCancelledError: On entering or inside: it is not wanted any more.
        """
        return CancelScope(self, context) if isinstance(request, Request) else nullcontext()

    def check(self, error: Exception) -> None:
        """Before a failure is decided on: that of work which was withdrawn meanwhile does not matter.

        Raises:
            RunCancelledError: It was.
        """
        watch = _current_scope.get()
        if watch is not None and watch.withdrawn:
            raise _cancelled_error(watch.context) from error

    def begin(self, watch: "CancelScope") -> None:
        """Know of work that begins."""
        self._watches.setdefault((watch.context.tenant, watch.context.run), set()).add(watch)

    def end(self, watch: "CancelScope") -> None:
        """Forget work that ended."""
        key = (watch.context.tenant, watch.context.run)
        watches = self._watches[key]
        watches.discard(watch)
        if not watches:
            del self._watches[key]

    # -- sending --------------------------------------------------------------------------------------------------

    def give_up(self, to: OutgoingCall, landed: Position | None) -> None:
        """Tell the workers that a call's caller has gone; returns at once.

        Args:
            to: What the call said.
            landed: Where its request stands; None = it may not have been sent.
        """
        cancel = self._cancel_of(to, landed)
        if cancel is not None:
            task = asyncio.create_task(self._tell(cancel))
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)

    def _cancel_of(self, to: OutgoingCall, landed: Position | None) -> Cancel | None:
        watch, envelope = _current_scope.get(), to.envelope
        if watch is not None and self.leaving and not watch.withdrawn:
            return None  # interrupted: another worker makes the same calls again
        run, step = envelope.run, envelope.step
        if run is None:
            if landed is None:
                return None  # nothing names it: it ends at its deadline
            run, step = derive_run_id(landed.topic, landed.partition, landed.offset, landed.timestamp), None
        if step == ROOT_STEP:
            step = None
        tenant = envelope.tenant or self._tenant
        if self._at(tenant, run, None) > 0:
            return None  # every worker knows: a run of many steps that is cancelled is one message
        return Cancel(run=run, step=step, tenant=tenant, deadline=round(to.deadline * 1_000))

    async def _tell(self, cancel: Cancel) -> None:
        try:
            await self._publish(cancel)
        except PoiseError as error:
            log.warning("run %s could not be cancelled and goes on to its deadline: %s", cancel.run, error)

    async def flush(self) -> None:
        """Wait until what is on its way has been told, for a moment at most."""
        if self._telling:
            await asyncio.wait(self._telling, timeout=FLUSH_TIMEOUT)


class CancelScope:
    """The work on one message, in the task that does it, until it is done or withdrawn."""

    def __init__(self, cancels: CancellationRegistry, context: RequestContext) -> None:
        self.context = context
        self.withdrawn = False
        self._cancels = cancels
        self._asked = 0
        self._again: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        """Begin, unless it was withdrawn already."""
        if self._cancels.covers(self.context):
            raise _cancelled_error(self.context)
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("work is watched in a task")
        self._task = task
        self._cancelling = task.cancelling()
        self._token: Token[CancelScope | None] = _current_scope.set(self)
        self._cancels.begin(self)
        return self

    def withdraw(self) -> None:
        """Cancel the work; if it does not stop, say so and cancel it again, a few times."""
        if not self.withdrawn:
            self.withdrawn = True
            self._ask()

    def _ask(self) -> None:
        self._asked += 1
        self._task.cancel()
        self._again = asyncio.get_running_loop().call_later(RECANCEL_INTERVAL, self._insist)

    def _insist(self) -> None:
        run, step = self.context.run, self.context.step
        if self._asked <= MAX_RECANCELS:
            log.warning("run %s step %s was cancelled %.0f s ago and goes on: again", run, step, RECANCEL_INTERVAL)
            self._ask()
        else:
            log.error("run %s step %s cannot be cancelled: its handler swallows CancelledError", run, step)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Tell withdrawn work from interrupted work, as `asyncio.timeout` tells its own cancelling from others'."""
        _current_scope.reset(self._token)
        self._cancels.end(self)
        if self._again is not None:
            self._again.cancel()
        if not self.withdrawn:
            return
        cancelling = [self._task.uncancel() for _ in range(self._asked)][-1]
        if error is None or (kind is asyncio.CancelledError and cancelling > self._cancelling):
            return  # it ended all the same; or the worker stops, and whoever gets it next knows of the cancel too
        raise _cancelled_error(self.context) from error


def _cancelled_error(context: RequestContext) -> RunCancelledError:
    return RunCancelledError(f"run {context.run} step {context.step} was cancelled")
