"""ReplayScheduler: delivers the outcomes of steps to the workflow one at a time, in the order of the journal.

    journaled    in the order of their numbers, each once the workflow has requested it
    abandoned   waits in its place until the workflow abandons it again; skipped if it is not requested
    new         after all journaled ones

An abandoned step waits for its turn too, before its cancellation continues. Otherwise two steps that are abandoned at
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

from poise.redis.journal import ABANDONED, JournalEntry

SETTLE_ROUNDS: Final = 16
"""Event loop iterations in which the workflow can act on a result.

Each task on the way, from the step to code that cancels others because of it, takes two.
"""


class ReplayPosition:
    """A step's place in the order of delivery."""

    __slots__ = ("abandoning", "dropped", "entry", "number", "queued", "ready", "requested", "step_id")

    def __init__(self, step_id: str, number: int, entry: JournalEntry | None) -> None:
        self.step_id = step_id
        self.number = number
        self.entry = entry
        """The journaled entry; None = the step is new."""
        self.requested = False
        self.queued = True
        """Whether it is still to be delivered."""
        self.abandoning = False
        """Whether the workflow is abandoning it now."""
        self.dropped = False
        """It is not waited for, and does not block later steps."""
        self.ready: asyncio.Future[None] | None = None
        """Done when it is delivered; None until the step waits for that."""

    @property
    def abandoned(self) -> bool:
        """Whether the workflow abandoned it, according to the journal."""
        return self.entry is not None and self.entry.outcome == ABANDONED


class ReplayScheduler:
    """The delivery order of one execution.

    Args:
        journaled: The journal's entries by step id.
    """

    def __init__(self, journaled: Mapping[str, JournalEntry]) -> None:
        ordered = sorted(journaled.items(), key=lambda item: item[1].number)
        self._positions = {step: ReplayPosition(step, entry.number, entry) for step, entry in ordered}
        self._queue = deque(self._positions.values())
        self._next_number = ordered[-1][1].number + 1 if ordered else 1
        self._steps_in_flight = 0
        self._rounds_left = 0
        self.replay_finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when all journaled outcomes are delivered."""
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

    def request_journaled(self, step: str) -> ReplayPosition | None:
        """Return the position of a journaled step and mark it as requested; None if the step is new."""
        position = self._positions.get(step)
        if position is not None:
            position.requested = True
        return position

    def append(self, step: str) -> ReplayPosition:
        """Append a position for a new step that just ended."""
        position = ReplayPosition(step, self._next_number, None)
        position.requested = True
        self._next_number += 1
        self._queue.append(position)
        return position

    def when_ready(self, position: ReplayPosition) -> asyncio.Future[None]:
        """Return a future that is done when the step is delivered."""
        position.ready = asyncio.get_running_loop().create_future()
        self._deliver()
        return position.ready

    def abandon(self, position: ReplayPosition) -> None:
        """Mark a step as being abandoned. Nothing later is delivered until that is journaled.

        1. The step is delivered. 2. Before its task runs again, another task cancels it. 3. The step must be delivered
           again: the next execution finds it abandoned and delivers nothing after it until its cancellation is
           complete. The same holds for a step that was skipped because it was requested late.
        """
        position.abandoning = True
        position.ready = None
        if not position.queued:
            position.queued = True
            self._queue.appendleft(position)

    def drop(self, position: ReplayPosition) -> None:
        """Stop waiting for a step that has not been delivered."""
        if not position.queued:
            return
        position.dropped = True
        self.progress_count += 1
        if self._steps_in_flight > 1 or not self.replay_finished.done():
            self._settle()
        self._deliver()

    def release(self) -> None:
        """Release the steps that are being abandoned: this execution is not journaled any more."""
        for position in self._queue:
            if position.abandoning and position.ready is not None and not position.ready.done():
                position.ready.set_result(None)

    # -- queries --------------------------------------------------------------------------------------------------

    def first_unrequested(self) -> ReplayPosition | None:
        """Return the first journaled step that was not requested."""
        return next(
            (
                position
                for position in self._queue
                if position.entry and not position.requested and not position.abandoned
            ),
            None,
        )

    def blocked_on(self) -> ReplayPosition | None:
        """Return the unrequested journaled step that blocks all others; None while other steps may advance."""
        # The workflow may still abandon such a step again, and then request more.
        if any(
            position.abandoned and position.requested and not (position.abandoning or position.dropped)
            for position in self._queue
        ):
            return None
        head = self._queue[0] if self._queue else None
        return head if head is not None and head.entry and not head.requested else None

    # -- delivery -------------------------------------------------------------------------------------------------

    def _deliver(self) -> None:
        """Deliver every step that can be delivered."""
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

    def _deliver_first(self, head: ReplayPosition) -> bool:
        """Deliver the first step if it is ready; return whether the next one may follow."""
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
