"""The order in which the results of a run's steps are handed to its workflow: one after another, as history has them.

    recorded   in the order of their numbers, each when the workflow has asked for it
    given up   stays where it is until the workflow gives it up again; not asked for, it is passed over
    new        behind all that is recorded

What is given up waits for its turn too, before it lets go: two that are given up at the same moment, without a result
in between, would else go on in the order in which their entries came to be kept, which is another one each time.

Between two results the workflow gets as far as it can: first time and again alike, what waits for the first of several
sees one of them. How far it gets cannot be seen from outside, so it is given a number of rounds of the event loop. A
workflow that does one step after another in its own task waits for nothing.
"""

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import Final

from poise.redis.journal import JournalEntry

SETTLE_ROUNDS: Final = 16
"""Rounds of the event loop that a result has to be acted on: each task in between, from the step to whoever cancels
others for it, takes two."""


class ReplaySlot:
    """A step's place in the order."""

    __slots__ = ("abandoning", "dropped", "entry", "number", "queued", "ready", "requested", "step")

    def __init__(self, step: str, number: int, entry: JournalEntry | None) -> None:
        self.step = step
        self.number = number
        self.entry = entry
        """What the history that was found says of it; None = nothing, it is new."""
        self.requested = False
        self.queued = True
        """Whether its turn is still to come."""
        self.abandoning = False
        """Whether the workflow gives it up now."""
        self.dropped = False
        """It is not waited for any more: it holds up nobody."""
        self.ready: asyncio.Future[None] | None = None
        """Done when its turn has come; None until the step waits for that."""

    @property
    def abandoned(self) -> bool:
        """Whether history says that the workflow gave it up."""
        return self.entry is not None and self.entry.outcome == "given-up"


class ReplayScheduler:
    """The order of one execution.

    Args:
        recorded: The history that was found, by step id.
    """

    def __init__(self, recorded: Mapping[str, JournalEntry]) -> None:
        ordered = sorted(recorded.items(), key=lambda item: item[1].number)
        self._turns = {step: ReplaySlot(step, entry.number, entry) for step, entry in ordered}
        self._queue = deque(self._turns.values())
        self._next = ordered[-1][1].number + 1 if ordered else 1
        self._under_way = 0
        self._rounds = 0
        self.live: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when all that was recorded is handed out."""
        self.progress_count = 0
        """Grows with whatever happens."""
        if not ordered:
            self.live.set_result(None)

    # -- what a step does -----------------------------------------------------------------------------------------

    def begin(self, *, aside: bool) -> None:
        """A step begins; `aside` = not in the workflow's own task, so that something else may be going on."""
        self._under_way += 1
        self.progress_count += 1
        if aside or not self.live.done():
            self._settle()

    def end(self) -> None:
        """A step ended, or was given up."""
        self._under_way -= 1

    def recorded(self, step: str) -> ReplaySlot | None:
        """The turn of a step that stands in the history, which is asked for now."""
        turn = self._turns.get(step)
        if turn is not None:
            turn.requested = True
        return turn

    def append(self, step: str) -> ReplaySlot:
        """The turn of a step that just ended, behind all others."""
        turn = ReplaySlot(step, self._next, None)
        turn.requested = True
        self._next += 1
        self._queue.append(turn)
        return turn

    def ready(self, turn: ReplaySlot) -> asyncio.Future[None]:
        """What is done when it is this one's turn."""
        turn.ready = asyncio.get_running_loop().create_future()
        self._hand_out()
        return turn.ready

    def abandon(self, turn: ReplaySlot) -> None:
        """A step is given up. Until that is kept, nothing that comes after it is handed out.

        1. Its turn comes. 2. Before its task is back at work, another one cancels that. 3. Its turn is to come again:
        the next execution finds it given up, and hands nothing out behind it until it has let go. So too with one that
        was passed over because it was asked for late.
        """
        turn.abandoning = True
        turn.ready = None
        if not turn.queued:
            turn.queued = True
            self._queue.appendleft(turn)

    def drop(self, turn: ReplaySlot) -> None:
        """Wait for a turn no more, if it has not come."""
        if not turn.queued:
            return
        turn.dropped = True
        self.progress_count += 1
        if self._under_way > 1 or not self.live.done():
            self._settle()
        self._hand_out()

    def release(self) -> None:
        """Whoever gives a step up waits no more: nobody will follow this execution."""
        for turn in self._queue:
            if turn.abandoning and turn.ready is not None and not turn.ready.done():
                turn.ready.set_result(None)

    # -- what can be seen -----------------------------------------------------------------------------------------

    def first_unrequested(self) -> ReplaySlot | None:
        """The first recorded step that nobody has asked for."""
        return next((turn for turn in self._queue if turn.entry and not turn.requested and not turn.abandoned), None)

    def blocked_on(self) -> ReplaySlot | None:
        """The recorded step that holds all others up because nobody asks for it; None while something else may move."""
        if any(turn.abandoned and turn.requested and not (turn.abandoning or turn.dropped) for turn in self._queue):
            return None
        head = self._queue[0] if self._queue else None
        return head if head is not None and head.entry and not head.requested else None

    # -- handing out ----------------------------------------------------------------------------------------------

    def _hand_out(self) -> None:
        """Hand out what can be handed out."""
        while True:
            while self._queue and self._queue[0].dropped:
                self._take()
            head = self._queue[0] if self._queue else None
            if head is None and self.live.done():
                return
            if self._rounds:  # it comes back when they are over
                return
            if not self.live.done() and (head is None or head.entry is None):
                self.live.set_result(None)
            if head is None or not self._passes(head):
                return

    def _passes(self, head: ReplaySlot) -> bool:
        """Hand out the first one, if it can be; whether the next one may come to its turn."""
        if head.abandoned and not head.requested:
            self._take()
            return True
        if head.ready is None:
            return False
        self._take()
        if not head.ready.done():
            head.ready.set_result(None)
        self.progress_count += 1
        if self._under_way > 1 or not self.live.done():
            self._settle()
        return True

    def _take(self) -> None:
        self._queue.popleft().queued = False

    def _settle(self) -> None:
        """Hand out nothing until the workflow has got as far as it can."""
        if not self._rounds:
            asyncio.get_running_loop().call_soon(self._round)
        self._rounds = SETTLE_ROUNDS

    def _round(self) -> None:
        self._rounds -= 1
        if self._rounds:
            asyncio.get_running_loop().call_soon(self._round)
        else:
            self._hand_out()
