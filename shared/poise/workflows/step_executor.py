"""The steps of one execution of a run: found in the history, or done and journaled before the workflow continues.

What the workflow sees of a step is its *outcome*: a value, a fault, or that it gave the step up itself (a timeout of
its own, a sibling that failed). A run that is *interrupted* (its worker stops, its deadline passes, it is withdrawn)
saw nothing: no more is journal_abandonment, so that whoever has the run next does again what was under way.

To tell the two apart, the workflow runs in a task of its own. Whoever interrupts a run cancels the task that waits for
it, which counts that at once, before any step hears of it; what the workflow cancels, it cancels inside.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from pydantic import ValidationError

from poise.errors import NonDeterminismError, PoiseError, RetryableError
from poise.redis.journal import Journal, JournalEntry, StepOutcome
from poise.telemetry import count, current_span, semconv
from poise.workflows.fault_codec import decode_fault, encode_fault
from poise.workflows.replay_scheduler import ReplayScheduler, ReplaySlot

T = TypeVar("T")

STALL_TIMEOUT: Final = 2.0
"""Seconds without any progress after which a workflow that does not ask for what comes next in its history has
non_determinism; until then it may be busy with something that the run does not know of."""
STALL_CHECKS: Final = 4
"""How often it is looked in that time: a process that stood still for long has seen one of them pass, not all."""


@dataclass(frozen=True, slots=True)
class StepRequest(Generic[T]):
    """What a workflow asks for."""

    step: str
    """The step's id."""
    what: str
    """In words, for whoever reads of a difference: `call generate/1`."""
    digest: str
    encode: Callable[[T], bytes]
    decode: Callable[[bytes], T]
    journal_abandonment: bool = True
    """Whether giving it up is journal_abandonment; a timer that did not fire has no effect."""


class StepExecutor:
    """The steps of one execution.

    Args:
        named: The run, for messages.
        history: Where outcomes are journal_abandonment; None = nowhere.
    """

    def __init__(self, named: str, history: Journal | None) -> None:
        self.replayed = 0
        """Outcomes that were found in the history."""
        self._named = named
        self._history = history
        self._order: ReplayScheduler | None = None
        self._caller: asyncio.Task[Any] | None = None
        self._main: asyncio.Task[Any] | None = None
        self._cancelling = 0
        self._ended = False
        self._non_determinism: NonDeterminismError | None = None

    # -- the execution --------------------------------------------------------------------------------------------

    async def execute(self, work: Coroutine[Any, Any, T]) -> T:
        """Do a workflow's work, beginning with what the history has.

        Raises:
            NonDeterminismError: It does something else than its history says.
        """
        self._caller = asyncio.current_task()
        self._cancelling = self._caller.cancelling() if self._caller else 0
        doing = asyncio.ensure_future(self._from_history(work))
        try:
            return await asyncio.shield(doing)
        except asyncio.CancelledError:
            self._end()  # before what is cancelled now waits for its turn
            doing.cancel()
            return await doing
        finally:
            self._end()  # of what it left behind nothing is journal_abandonment
            if self.replayed:
                count(semconv.STEPS_REPLAYED, self.replayed)
                current_span().set_attribute(semconv.REPLAYED, self.replayed)

    async def _from_history(self, work: Coroutine[Any, Any, T]) -> T:
        self._main = asyncio.current_task()
        try:
            recorded = None if self._history is None else await self._history.open()
        except BaseException:
            work.close()
            raise
        if recorded is not None:
            self._order = ReplayScheduler(recorded)
        try:
            result = await work
        except Exception as error:
            if (non_determinism := self._check_all_requested("failed")) is not None and non_determinism is not error:
                raise non_determinism from error
            raise
        if (non_determinism := self._check_all_requested("returned")) is not None:
            raise non_determinism
        return result

    def _end(self) -> None:
        """Keep nothing any more, and let go whatever waits to be given up."""
        self._ended = True
        if self._order is not None:
            self._order.release()

    def _check_all_requested(self, did: str) -> NonDeterminismError | None:
        missing = self._order.first_unrequested() if self._order else None
        if self._non_determinism is None and missing is not None and not self.interrupted:
            self._fail_as_non_deterministic(
                f"the workflow {did} without asking for {_describe_recorded(missing)}, which it did ask for last time"
            )
        return self._non_determinism

    @property
    def interrupted(self) -> bool:
        """Whether somebody outside has cancelled the run."""
        return self._caller is not None and self._caller.cancelling() > self._cancelling

    # -- one step -------------------------------------------------------------------------------------------------

    async def run_step(self, asked: StepRequest[T], work: Callable[[], Awaitable[T]]) -> tuple[T, float]:
        """A step's outcome, from the history or by its work, and the milliseconds that the work took.

        Raises:
            PoiseError: The work raised it, now or then.
            NonDeterminismError: The workflow asks for something else than the history has.
            asyncio.CancelledError: The run is interrupted: no more is done.
        """
        if self.interrupted:  # it would be done and not journaled
            await asyncio.sleep(0)
            raise asyncio.CancelledError
        order = self._order
        if order is None:
            began = time.perf_counter()
            return await work(), _elapsed_ms(began)
        if self._non_determinism is not None:
            raise self._non_determinism
        order.begin(aside=asyncio.current_task() is not self._main)
        try:
            turn = order.recorded(asked.step)
            return await (self._run_new(order, asked, work) if turn is None else self._replay(order, asked, turn))
        finally:
            order.end()

    async def _replay(self, order: ReplayScheduler, asked: StepRequest[T], turn: ReplaySlot) -> tuple[T, float]:
        entry = turn.entry
        if entry is None or (entry.description, entry.digest) != (asked.what, asked.digest):
            raise self._fail_as_non_deterministic(
                f"{_describe_recorded(turn)} is what it asked for last time, and {_describe_requested(asked)} now"
            )
        try:
            if entry.outcome == "given-up":
                await asyncio.get_running_loop().create_future()
            await self._await_turn(order, order.ready(turn), asked)
        except asyncio.CancelledError:
            await self._abandon(order, asked, turn, entry.ms)
            raise
        self.replayed += 1
        try:
            if entry.outcome == "fault":
                raise decode_fault(entry.body)
            return asked.decode(entry.body), entry.ms
        except (ValueError, ValidationError) as error:
            raise self._fail_as_non_deterministic(
                f"{_describe_recorded(turn)} ended with what cannot be read now: {error}"
            ) from error

    async def _run_new(
        self, order: ReplayScheduler, asked: StepRequest[T], work: Callable[[], Awaitable[T]]
    ) -> tuple[T, float]:
        turn: ReplaySlot | None = None
        began = time.perf_counter()
        try:
            await self._await_turn(order, order.live, asked)  # it is new: all that is recorded comes before it
            began = time.perf_counter()
            fault: PoiseError | None = None
            try:
                result = await work()
            except RetryableError:
                self._ended = True  # whoever retries the run wants this step done again
                raise
            except PoiseError as error:
                fault = error
            except Exception:
                self._ended = True  # a bug, of which only this execution knows what it was
                raise
            ms, body = _elapsed_ms(began), asked.encode(result) if fault is None else encode_fault(fault)
            turn = order.append(asked.step)
            await self._write(asked, turn, "value" if fault is None else "fault", ms, body)
            await order.ready(turn)
        except asyncio.CancelledError:
            await self._abandon(order, asked, turn, _elapsed_ms(began))
            raise
        except BaseException:
            if turn is not None:  # else all that comes after it would wait for it
                order.drop(turn)
            raise
        if fault is not None:
            raise fault
        return result, ms

    async def _abandon(self, order: ReplayScheduler, asked: StepRequest[T], turn: ReplaySlot | None, ms: float) -> None:
        if self.interrupted:
            self._end()
        if turn is None and asked.journal_abandonment and not self._ended:
            turn = order.append(asked.step)
        if turn is None:
            return
        order.abandon(turn)
        try:
            if not turn.abandoned:
                await self._write(asked, turn, "given-up", ms)
            if not self._ended:
                await self._await_turn(order, order.ready(turn), asked)
        finally:
            order.drop(turn)

    async def _write(
        self, asked: StepRequest[T], turn: ReplaySlot, outcome: StepOutcome, ms: float, body: bytes = b""
    ) -> None:
        if self._ended or self.interrupted or self._history is None:
            self._ended = True
            return
        entry = JournalEntry(turn.number, outcome, asked.what, asked.digest, ms, body)
        # One that is not journal_abandonment is the last: without it nobody could follow what comes after it.
        if not await self._history.write(asked.step, entry):
            self._ended = True

    # -- the same as last time? -----------------------------------------------------------------------------------

    async def _await_turn(self, order: ReplayScheduler, coming: "asyncio.Future[None]", asked: StepRequest[T]) -> None:
        """Wait for what comes when all that stands before it was handed out.

        Raises:
            NonDeterminismError: It will not come, for the workflow does not ask for what stands before it.
        """
        idle, moves = 0, order.progress_count
        while not coming.done():
            await asyncio.wait({coming}, timeout=STALL_TIMEOUT / STALL_CHECKS)
            if coming.done():
                return
            if self._non_determinism is not None:
                raise self._non_determinism
            idle, moves = idle + 1 if order.progress_count == moves else 0, order.progress_count
            missing = order.blocked_on()
            if idle >= STALL_CHECKS and missing is not None:
                raise self._fail_as_non_deterministic(
                    f"{_describe_recorded(missing)} comes next in its history, and the workflow asks for "
                    f"{_describe_requested(asked)}"
                )

    def _fail_as_non_deterministic(self, told: str) -> NonDeterminismError:
        if self._non_determinism is None:
            self._non_determinism = NonDeterminismError(
                f"{self._named} does something else than it did before it was interrupted: {told}. Where the code was"
                ' changed, give the workflow a new version, as @workflow("name", version=2), which starts runs over;'
                " else find what is not the same twice (clocks, random numbers and the like are had from the run). To"
                " start this run over, redrive its dead letter"
            )
            self._end()
        return self._non_determinism


def _describe_recorded(turn: ReplaySlot) -> str:
    entry = turn.entry
    return f"step {turn.step} ({entry.description}, {entry.outcome})" if entry else f"step {turn.step}"


def _describe_requested(asked: StepRequest[Any]) -> str:
    return f"step {asked.step} ({asked.what})"


def _elapsed_ms(began: float) -> float:
    return round((time.perf_counter() - began) * 1_000, 3)
