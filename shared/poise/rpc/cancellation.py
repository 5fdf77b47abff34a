"""Cancellation of runs and steps: published on `poise.cancel`, followed by every worker, remembered until its deadline.

Cancelled is not interrupted. *Cancelled* work is finished: its caller is gone, so its offset is committed, its reply is
the fault `urn:poise:cancelled`, and it is not repeated. *Interrupted* work (the worker stops) is repeated by another
worker, so the calls that it waited for are not cancelled.

A cancel and the message it applies to are in different topics, so either may arrive first. A cancelled run stays
cancelled. Cancelling a step affects only calls of it made before the cancel: a caller may abandon a call and repeat it
under the same name.
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
from poise.rpc.recent_cancels import CancelKey, RecentCancels
from poise.settings import MeshSettings

log = logging.getLogger(__name__)

CATCH_UP_TIMEOUT: Final = 60.0
"""Seconds to read the cancels that exist when a worker starts."""
FLUSH_TIMEOUT: Final = 2.0
"""Seconds for a stopping process to publish its last cancels."""
RECANCEL_INTERVAL: Final = 5.0
"""Seconds after which a handler that has not stopped is cancelled again, and named in the log."""
MAX_RECANCELS: Final = 3
"""How often a handler is cancelled again."""

_current_scope: ContextVar["CancelScope | None"] = ContextVar("current_scope", default=None)


class RequestContext(Protocol):
    """Identifies the work on one message."""

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
    """Publishes the cancels of one process and, in a worker (`async with`), follows those of all processes.

    Args:
        logs: Reads `poise.cancel`.
        settings: The tenant of calls that name none, and the clock skew.
        publish: Publishes a cancel and waits for the broker's acknowledgement.
    """

    def __init__(
        self, logs: LogAccess, settings: MeshSettings, publish: Callable[[Cancel], Awaitable[Position]]
    ) -> None:
        self.stopping = False
        """The worker is stopping: work whose task is cancelled from now on may be interrupted, not cancelled."""
        self._tenant = settings.tenant
        self._skew = settings.clock_skew
        self._publish = publish
        self._publishing: set[asyncio.Task[None]] = set()
        self._logs = logs
        self._reading = AsyncExitStack()
        self._recent = RecentCancels()
        self._scopes: dict[tuple[str, str], set[CancelScope]] = {}

    # -- following -------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Read the existing cancels, then follow the topic.

        Raises:
            SetupError: The topic cannot be read.
        """
        # Start one longest deadline ago, that of the batch lane: earlier cancels have expired. Cancels that were read
        # stay valid if the topic is deleted or recreated.
        start = time.time() - BATCH.longest - self._skew
        async with AsyncExitStack() as stack:
            reader = await stack.enter_async_context(LogReader(self._logs, CANCEL.name, self._receive, start=start))
            await reader.wait_until_opening_end(CATCH_UP_TIMEOUT)
            self._reading = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop following."""
        await self._reading.aclose()

    def _receive(self, record: Record) -> None:
        self._apply(record, time.time())

    def _apply(self, record: Record, now: float) -> None:
        cancel = Cancel.parse(record.value or b"")
        until = min(cancel.deadline / 1_000, min(record.timestamp, now) + BATCH.longest) + self._skew
        if until < now:
            return
        cancelled = CancelKey(cancel.tenant, cancel.run, cancel.step)
        if self._recent.add(cancelled, until=until, at=record.timestamp, now=now):
            log.warning("more active cancels than this worker remembers: one was evicted before its deadline")
        for scope in tuple(self._scopes.get((cancel.tenant, cancel.run), ())):
            if self.is_cancelled(scope.context):
                scope.cancel()

    def is_cancelled(self, context: RequestContext) -> bool:
        """Return whether a message was cancelled."""
        if not len(self._recent):
            return False
        tenant, run = context.tenant, context.run
        # A redrive revives a run that was cancelled before it.
        if self.cancelled_at(tenant, run, None) >= (context.written if context.envelope.redrives else 0.0):
            return True
        return self.cancelled_at(tenant, run, context.step) >= context.written

    def cancelled_at(self, tenant: str, run: str, step: str | None) -> float:
        """Return when a run or step was cancelled, in Unix seconds; -1 = it was not, or the cancel has expired."""
        return self._recent.cancelled_at(CancelKey(tenant, run, step), time.time())

    def scope(self, request: Message, context: RequestContext) -> AbstractContextManager[object]:
        """Return a context manager that cancels the work on a message when a cancel arrives.

        Raises:
            RunCancelledError: On entering or on leaving: the message was cancelled.
        """
        return CancelScope(self, context) if isinstance(request, Request) else nullcontext()

    def raise_if_cancelled(self, error: Exception) -> None:
        """Raise RunCancelledError instead of `error` if the work in this task was cancelled in the meantime.

        Raises:
            RunCancelledError: The work in this task was cancelled.
        """
        scope = _current_scope.get()
        if scope is not None and scope.cancelled:
            raise _cancelled_error(scope.context) from error

    def register(self, scope: "CancelScope") -> None:
        """Add a scope that cancels apply to."""
        self._scopes.setdefault((scope.context.tenant, scope.context.run), set()).add(scope)

    def unregister(self, scope: "CancelScope") -> None:
        """Remove a scope whose work has ended."""
        key = (scope.context.tenant, scope.context.run)
        scopes = self._scopes[key]
        scopes.discard(scope)
        if not scopes:
            del self._scopes[key]

    # -- publishing -----------------------------------------------------------------------------------------------

    def publish_cancel_of(self, call: OutgoingCall, position: Position | None) -> None:
        """Publish the cancel of a call whose caller is gone; returns at once.

        Args:
            call: The abandoned call.
            position: The position of its request; None = it may not have been sent.
        """
        cancel = self._cancel_of(call, position)
        if cancel is not None:
            task = asyncio.create_task(self._publish_or_log(cancel))
            self._publishing.add(task)
            task.add_done_callback(self._publishing.discard)

    def _cancel_of(self, call: OutgoingCall, position: Position | None) -> Cancel | None:
        scope, envelope = _current_scope.get(), call.envelope
        if scope is not None and self.stopping and not scope.cancelled:
            return None  # interrupted: another worker repeats the same calls
        run, step = envelope.run, envelope.step
        if run is None:
            if position is None:
                return None  # the run has no name: it ends at its deadline
            run, step = derive_run_id(position.topic, position.partition, position.offset, position.timestamp), None
        if step == ROOT_STEP:
            step = None
        tenant = envelope.tenant or self._tenant
        if self.cancelled_at(tenant, run, None) > 0:
            return None  # the run is cancelled already: a run of many steps needs one message
        return Cancel(run=run, step=step, tenant=tenant, deadline=round(call.deadline * 1_000))

    async def _publish_or_log(self, cancel: Cancel) -> None:
        try:
            await self._publish(cancel)
        except PoiseError as error:
            log.warning("run %s could not be cancelled, and continues until its deadline: %s", cancel.run, error)

    async def flush(self) -> None:
        """Wait until the last cancels are published, for at most `FLUSH_TIMEOUT`."""
        if self._publishing:
            await asyncio.wait(self._publishing, timeout=FLUSH_TIMEOUT)


class CancelScope:
    """The work on one message, in the task that does it, until it ends or is cancelled."""

    def __init__(self, registry: CancellationRegistry, context: RequestContext) -> None:
        self.context = context
        self.cancelled = False
        self._registry = registry
        self._attempts = 0
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        """Register the work, unless it is cancelled already."""
        if self._registry.is_cancelled(self.context):
            raise _cancelled_error(self.context)
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a CancelScope needs a task")
        self._task = task
        self._cancelling = task.cancelling()
        self._token: Token[CancelScope | None] = _current_scope.set(self)
        self._registry.register(self)
        return self

    def cancel(self) -> None:
        """Cancel the task. If it does not stop, log it and cancel it again, up to `MAX_RECANCELS` times."""
        if not self.cancelled:
            self.cancelled = True
            self._cancel_task()

    def _cancel_task(self) -> None:
        self._attempts += 1
        self._task.cancel()
        self._timer = asyncio.get_running_loop().call_later(RECANCEL_INTERVAL, self._recancel)

    def _recancel(self) -> None:
        run, step = self.context.run, self.context.step
        if self._attempts <= MAX_RECANCELS:
            log.warning(
                "run %s step %s still runs %.0f s after it was cancelled: cancelled again", run, step, RECANCEL_INTERVAL
            )
            self._cancel_task()
        else:
            log.error("run %s step %s cannot be cancelled: its handler swallows CancelledError", run, step)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Distinguish cancelled from interrupted work, as `asyncio.timeout` distinguishes its own cancellation."""
        _current_scope.reset(self._token)
        self._registry.unregister(self)
        if self._timer is not None:
            self._timer.cancel()
        if not self.cancelled:
            return
        cancelling = [self._task.uncancel() for _ in range(self._attempts)][-1]
        if error is None or (kind is asyncio.CancelledError and cancelling > self._cancelling):
            return  # the work finished; or the worker stops, and the next worker reads the cancel too
        raise _cancelled_error(self.context) from error


def _cancelled_error(context: RequestContext) -> RunCancelledError:
    return RunCancelledError(f"run {context.run} step {context.step} was cancelled")
