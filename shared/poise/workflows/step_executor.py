"""StepExecutor: runs the steps of one execution of a run, or replays them from the journal.

A step's *outcome* is what the workflow sees of it: a value, a fault, or that the workflow abandoned the step itself
(its own timeout fired, a sibling step failed). A run that is *stopped from outside* (its worker stops, its deadline
passes, it is cancelled) saw no outcome: nothing more is journaled, so that the next execution, if there is one, repeats
the steps in flight.

To distinguish the two, the workflow runs in a separate task. A stop from outside cancels the task that waits for it,
which notes that before any step is cancelled; what the workflow cancels itself, it cancels inside its own task.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from pydantic import ValidationError

from poise.errors import NonDeterminismError, PoiseError, RetryableError
from poise.redis.journal import ABANDONED, Journal, JournalEntry, StepOutcome
from poise.telemetry import count, current_span, semconv
from poise.workflows.fault_codec import decode_fault, encode_fault
from poise.workflows.replay_scheduler import ReplayPosition, ReplayScheduler

T = TypeVar("T")

STALL_TIMEOUT: Final = 2.0
"""Seconds without progress after which a workflow that does not request its next journaled step is non-deterministic.

Until then it may be busy with something outside the run's control.
"""
STALL_CHECKS: Final = 4
"""Checks per stall timeout, so that a process that was suspended has missed one check and not all."""


@dataclass(frozen=True, slots=True)
class StepRequest(Generic[T]):
    """A step that a workflow requests."""

    step_id: str
    """Unique in the run; of a step without an id, its name and a digest."""
    description: str
    """The kind of step, for messages about non-determinism: `call generate/1`."""
    digest: str
    encode: Callable[[T], bytes]
    decode: Callable[[bytes], T]
    journal_abandonment: bool = True
    """Whether abandoning the step is journaled; a timer that did not fire has no effect."""


class StepExecutor:
    """The steps of one execution.

    Args:
        run_name: The run, for messages.
        journal: Where outcomes are written; None = they are not journaled.
    """

    def __init__(self, run_name: str, journal: Journal | None) -> None:
        self.replayed = 0
        """The number of outcomes that were replayed."""
        self._run_name = run_name
        self._journal = journal
        self._scheduler: ReplayScheduler | None = None
        self._caller: asyncio.Task[Any] | None = None
        self._workflow_task: asyncio.Task[Any] | None = None
        self._initial_cancellations = 0
        self._journaling_stopped = False
        self._non_determinism: NonDeterminismError | None = None

    # -- the execution --------------------------------------------------------------------------------------------

    async def execute(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a workflow, replaying its journal first.

        Raises:
            NonDeterminismError: The workflow's steps differ from its journal.
        """
        self._caller = asyncio.current_task()
        self._initial_cancellations = self._caller.cancelling() if self._caller else 0
        task = asyncio.ensure_future(self._replay_and_run(work))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            self._stop_journaling()  # before the cancelled steps wait for their turn
            task.cancel()
            return await task
        finally:
            self._stop_journaling()  # nothing that still runs is journaled
            if self.replayed:
                count(semconv.STEPS_REPLAYED, self.replayed)
                current_span().set_attribute(semconv.REPLAYED, self.replayed)

    async def _replay_and_run(self, work: Coroutine[Any, Any, T]) -> T:
        self._workflow_task = asyncio.current_task()
        try:
            journaled = None if self._journal is None else await self._journal.open()
        except BaseException:
            work.close()
            raise
        if journaled is not None:
            self._scheduler = ReplayScheduler(journaled)
        try:
            result = await work
        except Exception as error:
            if (non_determinism := self._check_all_requested("failed")) is not None and non_determinism is not error:
                raise non_determinism from error
            raise
        if (non_determinism := self._check_all_requested("returned")) is not None:
            raise non_determinism
        return result

    def _stop_journaling(self) -> None:
        """Stop journaling, and release the steps that wait to be abandoned."""
        self._journaling_stopped = True
        if self._scheduler is not None:
            self._scheduler.release()

    def _check_all_requested(self, did: str) -> NonDeterminismError | None:
        missing = self._scheduler.first_unrequested() if self._scheduler else None
        if self._non_determinism is None and missing is not None and not self.stopped:
            self._fail_as_non_deterministic(
                f"the workflow {did} without requesting {_describe_journaled(missing)}, which it requested before"
            )
        return self._non_determinism

    @property
    def stopped(self) -> bool:
        """Whether the run was stopped from outside."""
        return self._caller is not None and self._caller.cancelling() > self._initial_cancellations

    # -- one step -------------------------------------------------------------------------------------------------

    async def run_step(self, request: StepRequest[T], work: Callable[[], Awaitable[T]]) -> tuple[T, float]:
        """Return a step's result, replayed or computed, and the milliseconds that its work took.

        Raises:
            PoiseError: The work raised it, now or in an earlier execution.
            NonDeterminismError: The request differs from the journal.
            asyncio.CancelledError: The run was stopped from outside, and the step was not run.
        """
        if self.stopped:  # the step would run and not be journaled
            await asyncio.sleep(0)
            raise asyncio.CancelledError
        scheduler = self._scheduler
        if scheduler is None:
            began = time.perf_counter()
            return await work(), _elapsed_ms(began)
        if self._non_determinism is not None:
            raise self._non_determinism
        scheduler.begin(concurrent=asyncio.current_task() is not self._workflow_task)
        try:
            position = scheduler.request_journaled(request.step_id)
            return await (
                self._run_new(scheduler, request, work)
                if position is None
                else self._replay(scheduler, request, position)
            )
        finally:
            scheduler.end()

    async def _replay(
        self, scheduler: ReplayScheduler, request: StepRequest[T], position: ReplayPosition
    ) -> tuple[T, float]:
        entry = position.entry
        if entry is None or (entry.description, entry.digest) != (request.description, request.digest):
            raise self._fail_as_non_deterministic(
                f"it requested {_describe_journaled(position)} before, and {_describe_requested(request)} now"
            )
        try:
            if entry.outcome == ABANDONED:  # wait, without end, until the workflow abandons the step again
                await asyncio.get_running_loop().create_future()
            await self._await_delivery(scheduler, scheduler.when_ready(position), request)
        except asyncio.CancelledError:
            await self._abandon(scheduler, request, position, entry.ms)
            raise
        self.replayed += 1
        try:
            if entry.outcome == "fault":
                raise decode_fault(entry.body)
            return request.decode(entry.body), entry.ms
        except (ValueError, ValidationError) as error:
            raise self._fail_as_non_deterministic(
                f"the journaled outcome of {_describe_journaled(position)} cannot be decoded: {error}"
            ) from error

    async def _run_new(
        self, scheduler: ReplayScheduler, request: StepRequest[T], work: Callable[[], Awaitable[T]]
    ) -> tuple[T, float]:
        position: ReplayPosition | None = None
        began = time.perf_counter()
        try:
            await self._await_delivery(scheduler, scheduler.replay_finished, request)  # after all journaled steps
            began = time.perf_counter()
            fault: PoiseError | None = None
            try:
                result = await work()
            except RetryableError:
                self._journaling_stopped = True  # the retried run must repeat this step
                raise
            except PoiseError as error:
                fault = error
            except Exception:
                self._journaling_stopped = True  # a bug: the next execution must not replay it
                raise
            ms, body = _elapsed_ms(began), request.encode(result) if fault is None else encode_fault(fault)
            position = scheduler.append(request.step_id)
            await self._write(request, position, "value" if fault is None else "fault", ms, body)
            await scheduler.when_ready(position)
        except asyncio.CancelledError:
            await self._abandon(scheduler, request, position, _elapsed_ms(began))
            raise
        except BaseException:
            if position is not None:  # otherwise all later steps would wait for it
                scheduler.drop(position)
            raise
        if fault is not None:
            raise fault
        return result, ms

    async def _abandon(
        self, scheduler: ReplayScheduler, request: StepRequest[T], position: ReplayPosition | None, ms: float
    ) -> None:
        if self.stopped:
            self._stop_journaling()
        if position is None and request.journal_abandonment and not self._journaling_stopped:
            position = scheduler.append(request.step_id)
        if position is None:
            return
        scheduler.abandon(position)
        try:
            if not position.abandoned:
                await self._write(request, position, ABANDONED, ms)
            if not self._journaling_stopped:
                await self._await_delivery(scheduler, scheduler.when_ready(position), request)
        finally:
            scheduler.drop(position)

    async def _write(
        self, request: StepRequest[T], position: ReplayPosition, outcome: StepOutcome, ms: float, body: bytes = b""
    ) -> None:
        if self._journaling_stopped or self.stopped or self._journal is None:
            self._journaling_stopped = True
            return
        entry = JournalEntry(position.number, outcome, request.description, request.digest, ms, body)
        # After an entry that was not written, no later one may be: it could not be replayed.
        if not await self._journal.write(request.step_id, entry):
            self._journaling_stopped = True

    # -- non-determinism -----------------------------------------------------------------------------------------

    async def _await_delivery(
        self, scheduler: ReplayScheduler, ready: "asyncio.Future[None]", request: StepRequest[T]
    ) -> None:
        """Wait until all earlier steps have been delivered.

        Raises:
            NonDeterminismError: They never will be, because the workflow does not request the next journaled step.
        """
        idle, progress = 0, scheduler.progress_count
        while not ready.done():
            await asyncio.wait({ready}, timeout=STALL_TIMEOUT / STALL_CHECKS)
            if ready.done():
                return
            if self._non_determinism is not None:
                raise self._non_determinism
            idle = idle + 1 if scheduler.progress_count == progress else 0
            progress = scheduler.progress_count
            missing = scheduler.blocked_on()
            if idle >= STALL_CHECKS and missing is not None:
                raise self._fail_as_non_deterministic(
                    f"{_describe_journaled(missing)} is next in its journal, and the workflow requests "
                    f"{_describe_requested(request)}"
                )

    def _fail_as_non_deterministic(self, reason: str) -> NonDeterminismError:
        if self._non_determinism is None:
            self._non_determinism = NonDeterminismError(
                f"{self._run_name} is non-deterministic: {reason}. If its code was changed, give the workflow a new"
                ' version, as @workflow("name", version=2), which starts its runs over; otherwise find what differs'
                " between executions (take times and random numbers from the run). To start this run over, redrive its"
                " dead letter"
            )
            self._stop_journaling()
        return self._non_determinism


def _describe_journaled(position: ReplayPosition) -> str:
    entry = position.entry
    if entry is None:
        return f"step {position.step_id}"
    outcome = "abandoned" if position.abandoned else entry.outcome
    return f"step {position.step_id} ({entry.description}, {outcome})"


def _describe_requested(request: StepRequest[Any]) -> str:
    return f"step {request.step_id} ({request.description})"


def _elapsed_ms(began: float) -> float:
    return round((time.perf_counter() - began) * 1_000, 3)
