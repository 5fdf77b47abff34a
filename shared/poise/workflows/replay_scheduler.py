"""ReplayScheduler: delivers the outcomes of steps to the workflow one at a time, in the order of the journal.

    recorded    in the order of their numbers, each once the workflow has requested it
    abandoned   waits in its place until the workflow abandons it again; skipped if it is not requested
    new         after all recorded ones

An abandoned step waits for its slot too, before its cancellation continues. Otherwise two steps that are abandoned at
the same moment, without a result in between, would continue in the order in which their entries were written, which
differs between executions.

Between two results the workflow advances as far as it can: in the first execution and in a replay, code that waits for
the first of several steps sees one of them. How far it advances cannot be observed from outside, so it gets a number of
event loop iterations. A workflow that runs one step after another in its own task does not wait.
"""

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import Final

from poise.redis.journal import JournalEntry

SETTLE_ROUNDS: Final = 16
"""Event loop iterations in which the workflow can act on a result.

Each task on the way, from the step to code that cancels others because of it, takes two.
"""


class ReplaySlot:
    """A step's place in the order."""

    __slots__ = ("abandoning", "dropped", "entry", "number", "queued", "ready", "requested", "step")

    def __init__(self, step: str, number: int, entry: JournalEntry | None) -> None:
        self.step = step
        self.number = number
        self.entry = entry
        """The journaled entry; None = the step is new."""
        self.requested = False
        self.queued = True
        """Whether it is still to be delivered."""
        self.abandoning = False
        """Whether the workflow is abandoning it now."""
        self.dropped = False
        """It is not waited for, and does not block later slots."""
        self.ready: asyncio.Future[None] | None = None
        """Done when it is delivered; None until the step waits for that."""

    @property
    def abandoned(self) -> bool:
        """Whether the workflow abandoned it, according to the journal."""
        return self.entry is not None and self.entry.outcome == "given-up"


class ReplayScheduler:
    """The delivery order of one execution.

    Args:
        recorded: The journal's entries by step id.
    """

    def __init__(self, recorded: Mapping[str, JournalEntry]) -> None:
        ordered = sorted(recorded.items(), key=lambda item: item[1].number)
        self._slots = {step: ReplaySlot(step, entry.number, entry) for step, entry in ordered}
        self._queue = deque(self._slots.values())
        self._next_number = ordered[-1][1].number + 1 if ordered else 1
        self._steps_in_flight = 0
        self._rounds_left = 0
        self.replay_finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when all recorded outcomes are delivered."""
        self.progress_count = 0
        """Increases with every event."""
        if not ordered:
            self.replay_finished.set_result(None)

    # -- called by steps ------------------------------------------------------------------------------------------

    def begin(self, *, concurrent: bool) -> None:
        """Record that a step starts.

        Args:
            concurrent: It does not run in the workflow's own task, so other steps may run meanwhile.
        """
        self._steps_in_flight += 1
        self.progress_count += 1
        if concurrent or not self.replay_finished.done():
            self._settle()

    def end(self) -> None:
        """Record that a step ended or was abandoned."""
        self._steps_in_flight -= 1

    def request_recorded(self, step: str) -> ReplaySlot | None:
        """Return the slot of a recorded step and mark it as requested; None if the step is new."""
        slot = self._slots.get(step)
        if slot is not None:
            slot.requested = True
        return slot

    def append(self, step: str) -> ReplaySlot:
        """Append a slot for a new step that just ended."""
        slot = ReplaySlot(step, self._next_number, None)
        slot.requested = True
        self._next_number += 1
        self._queue.append(slot)
        return slot

    def when_ready(self, slot: ReplaySlot) -> asyncio.Future[None]:
        """Return a future that is done when the slot is delivered."""
        slot.ready = asyncio.get_running_loop().create_future()
        self._deliver()
        return slot.ready

    def abandon(self, slot: ReplaySlot) -> None:
        """Mark a step as being abandoned. Nothing later is delivered until that is journaled.

        1. The slot is delivered. 2. Before its task runs again, another task cancels it. 3. The slot must be delivered
           again: the next execution finds it abandoned and delivers nothing after it until its cancellation is
           complete. The same holds for a slot that was skipped because it was requested late.
        """
        slot.abandoning = True
        slot.ready = None
        if not slot.queued:
            slot.queued = True
            self._queue.appendleft(slot)

    def drop(self, slot: ReplaySlot) -> None:
        """Stop waiting for a slot that has not been delivered."""
        if not slot.queued:
            return
        slot.dropped = True
        self.progress_count += 1
        if self._steps_in_flight > 1 or not self.replay_finished.done():
            self._settle()
        self._deliver()

    def release(self) -> None:
        """Release the steps that are being abandoned: this execution is not journaled any more."""
        for slot in self._queue:
            if slot.abandoning and slot.ready is not None and not slot.ready.done():
                slot.ready.set_result(None)

    # -- queries --------------------------------------------------------------------------------------------------

    def first_unrequested(self) -> ReplaySlot | None:
        """Return the first recorded step that was not requested."""
        return next((slot for slot in self._queue if slot.entry and not slot.requested and not slot.abandoned), None)

    def blocked_on(self) -> ReplaySlot | None:
        """Return the unrequested recorded step that blocks all others; None while other steps may advance."""
        if any(slot.abandoned and slot.requested and not (slot.abandoning or slot.dropped) for slot in self._queue):
            return None
        head = self._queue[0] if self._queue else None
        return head if head is not None and head.entry and not head.requested else None

    # -- delivery -------------------------------------------------------------------------------------------------

    def _deliver(self) -> None:
        """Deliver every slot that can be delivered."""
        while True:
            while self._queue and self._queue[0].dropped:
                self._pop()
            head = self._queue[0] if self._queue else None
            if head is None and self.replay_finished.done():
                return
            if self._rounds_left:  # called again after the last round
                return
            if not self.replay_finished.done() and (head is None or head.entry is None):
                self.replay_finished.set_result(None)
            if head is None or not self._deliver_first(head):
                return

    def _deliver_first(self, head: ReplaySlot) -> bool:
        """Deliver the first slot if it is ready; return whether the next one may follow."""
        if head.abandoned and not head.requested:
            self._pop()
            return True
        if head.ready is None:
            return False
        self._pop()
        if not head.ready.done():
            head.ready.set_result(None)
        self.progress_count += 1
        if self._steps_in_flight > 1 or not self.replay_finished.done():
            self._settle()
        return True

    def _pop(self) -> None:
        self._queue.popleft().queued = False

    def _settle(self) -> None:
        """Deliver nothing until the workflow has advanced as far as it can."""
        if not self._rounds_left:
            asyncio.get_running_loop().call_soon(self._settle_round)
        self._rounds_left = SETTLE_ROUNDS

    def _settle_round(self) -> None:
        self._rounds_left -= 1
        if self._rounds_left:
            asyncio.get_running_loop().call_soon(self._settle_round)
        else:
            self._deliver()
