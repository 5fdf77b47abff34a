"""The steps of one execution of a run: found in the history, or done and kept there before the workflow goes on.

What the workflow sees of a step is its *outcome*: a value, a fault, or that it gave the step up itself (a timeout of
its own, a sibling that failed). A run that is *interrupted* (its worker stops, its deadline passes, it is withdrawn)
saw nothing: no more is kept, so that whoever has the run next does again what was under way.

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
from poise.redis.journal import Entry, Journal, Outcome
from poise.telemetry import count, current_span, semconv
from poise.workflows.fault_codec import decode_fault, encode_fault
from poise.workflows.replay_scheduler import ReplayScheduler, ReplaySlot

T = TypeVar("T")

STUCK: Final = 2.0
"""Seconds without any progress after which a workflow that does not ask for what comes next in its history has
diverged; until then it may be busy with something that the run does not know of."""
LOOKS: Final = 4
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
    kept: bool = True
    """Whether giving it up is kept; a timer that did not fire has no effect."""


class StepExecutor:
    """The steps of one execution.

    Args:
        named: The run, for messages.
        history: Where outcomes are kept; None = nowhere.
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
        self._diverged: NonDeterminismError | None = None

    # -- the execution --------------------------------------------------------------------------------------------

    async def execute(self, work: Coroutine[Any, Any, T]) -> T:
        """Do a workflow's work, beginning with what the history has.

        Raises:
            DivergedError: It does something else than its history says.
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
            self._end()  # of what it left behind nothing is kept
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
            if (diverged := self._difference("failed")) is not None and diverged is not error:
                raise diverged from error
            raise
        if (diverged := self._difference("returned")) is not None:
            raise diverged
        return result

    def _end(self) -> None:
        """Keep nothing any more, and let go whatever waits to be given up."""
        self._ended = True
        if self._order is not None:
            self._order.release()

    def _difference(self, did: str) -> NonDeterminismError | None:
        missing = self._order.missing() if self._order else None
        if self._diverged is None and missing is not None and not self.interrupted:
            self._diverge(f"the workflow {did} without asking for {_recorded(missing)}, which it did ask for last time")
        return self._diverged

    @property
    def interrupted(self) -> bool:
        """Whether somebody outside has cancelled the run."""
        return self._caller is not None and self._caller.cancelling() > self._cancelling

    # -- one step -------------------------------------------------------------------------------------------------

    async def take(self, asked: StepRequest[T], work: Callable[[], Awaitable[T]]) -> tuple[T, float]:
        """A step's outcome, from the history or by its work, and the milliseconds that the work took.

        Raises:
            PoiseError: The work raised it, now or then.
            DivergedError: The workflow asks for something else than the history has.
            asyncio.CancelledError: The run is interrupted: no more is done.
        """
        if self.interrupted:  # it would be done and not kept; and what stands before it may not be asked for any more
            await asyncio.sleep(0)
            raise asyncio.CancelledError
        order = self._order
        if order is None:
            began = time.perf_counter()
            return await work(), _ms(began)
        if self._diverged is not None:
            raise self._diverged
        order.begin(aside=asyncio.current_task() is not self._main)
        try:
            turn = order.recorded(asked.step)
            return await (self._do(order, asked, work) if turn is None else self._find(order, asked, turn))
        finally:
            order.end()

    async def _find(self, order: ReplayScheduler, asked: StepRequest[T], turn: ReplaySlot) -> tuple[T, float]:
        entry = turn.entry
        if entry is None or (entry.what, entry.digest) != (asked.what, asked.digest):
            raise self._diverge(f"{_recorded(turn)} is what it asked for last time, and {_now(asked)} now")
        try:
            if entry.outcome == "given-up":
                await asyncio.get_running_loop().create_future()
            await self._come(order, order.ready(turn), asked)
        except asyncio.CancelledError:
            await self._give_up(order, asked, turn, entry.ms)
            raise
        self.replayed += 1
        try:
            if entry.outcome == "fault":
                raise decode_fault(entry.body)
            return asked.decode(entry.body), entry.ms
        except (ValueError, ValidationError) as error:
            raise self._diverge(f"{_recorded(turn)} ended with what cannot be read now: {error}") from error

    async def _do(
        self, order: ReplayScheduler, asked: StepRequest[T], work: Callable[[], Awaitable[T]]
    ) -> tuple[T, float]:
        turn: ReplaySlot | None = None
        began = time.perf_counter()
        try:
            await self._come(order, order.live, asked)  # it is new: all that is recorded comes before it
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
            ms, body = _ms(began), asked.encode(result) if fault is None else encode_fault(fault)
            turn = order.append(asked.step)
            await self._keep(asked, turn, "value" if fault is None else "fault", ms, body)
            await order.ready(turn)
        except asyncio.CancelledError:
            await self._give_up(order, asked, turn, _ms(began))
            raise
        except BaseException:
            if turn is not None:  # else all that comes after it would wait for it
                order.drop(turn)
            raise
        if fault is not None:
            raise fault
        return result, ms

    async def _give_up(self, order: ReplayScheduler, asked: StepRequest[T], turn: ReplaySlot | None, ms: float) -> None:
        if self.interrupted:
            self._end()
        if turn is None and asked.kept and not self._ended:
            turn = order.append(asked.step)
        if turn is None:
            return
        order.give_up(turn)
        try:
            if not turn.given_up:
                await self._keep(asked, turn, "given-up", ms)
            if not self._ended:
                await self._come(order, order.ready(turn), asked)
        finally:
            order.drop(turn)

    async def _keep(
        self, asked: StepRequest[T], turn: ReplaySlot, outcome: Outcome, ms: float, body: bytes = b""
    ) -> None:
        if self._ended or self.interrupted or self._history is None:
            self._ended = True
            return
        entry = Entry(turn.number, outcome, asked.what, asked.digest, ms, body)
        # One that is not kept is the last: without it nobody could follow what comes after it.
        if not await self._history.write(asked.step, entry):
            self._ended = True

    # -- the same as last time? -----------------------------------------------------------------------------------

    async def _come(self, order: ReplayScheduler, coming: "asyncio.Future[None]", asked: StepRequest[T]) -> None:
        """Wait for what comes when all that stands before it was handed out.

        Raises:
            DivergedError: It will not come, for the workflow does not ask for what stands before it.
        """
        idle, moves = 0, order.moves
        while not coming.done():
            await asyncio.wait({coming}, timeout=STUCK / LOOKS)
            if coming.done():
                return
            if self._diverged is not None:
                raise self._diverged
            idle, moves = idle + 1 if order.moves == moves else 0, order.moves
            missing = order.stuck_at()
            if idle >= LOOKS and missing is not None:
                told = f"{_recorded(missing)} comes next in its history, and the workflow asks for {_now(asked)}"
                raise self._diverge(told)

    def _diverge(self, told: str) -> NonDeterminismError:
        if self._diverged is None:
            self._diverged = NonDeterminismError(
                f"{self._named} does something else than it did before it was interrupted: {told}. Where the code was"
                ' changed, give the workflow a new version, as @workflow("name", version=2), which starts runs over;'
                " else find what is not the same twice (clocks, random numbers and the like are had from the run). To"
                " start this run over, redrive its dead letter"
            )
            self._end()
        return self._diverged


def _recorded(turn: ReplaySlot) -> str:
    entry = turn.entry
    return f"step {turn.step} ({entry.what}, {entry.outcome})" if entry else f"step {turn.step}"


def _now(asked: StepRequest[Any]) -> str:
    return f"step {asked.step} ({asked.what})"


def _ms(began: float) -> float:
    return round((time.perf_counter() - began) * 1_000, 3)
