"""Handling slots: the concurrency of one consumer. A handler that only waits releases its slot.

    taken      the message is being handled; a new one starts only if a slot is free
    parked     its handler waits (for a reply, a time, another worker): its slot is free for others
    waiting    its handler waits, but as many messages as allowed are parked already: it keeps its slot
    resuming   its wait is over: it gets the next free slot, before any new message

If every slot is held by a message that only waits, a new message waits until one of them ends: `exhausted`.

A wait that is cancelled (a deadline, a cancellation, a worker that stops) ends at once, because only a fault or
cleanup follows and must not be delayed. The handler continues, and still gets the next free slot.
"""

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from types import TracebackType

_slot: ContextVar["Slot | None"] = ContextVar("slot", default=None)


def parked() -> "Parked":
    """Release the handling slot of the current message inside the block, in which the handler only waits.

    The wait must need nothing of this process. A handler that does several things at once counts as waiting as long as
    one of them waits. Outside a handler, or inside another such block, this does nothing.
    """
    return Parked(_slot.get())


class Parked:
    """The context manager that `parked` returns."""

    def __init__(self, slot: "Slot | None") -> None:
        self._slot = slot

    async def __aenter__(self) -> None:
        """Release the slot."""
        if self._slot is not None:
            self._slot.start_wait()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Take a slot again, behind earlier ones; return at once if the wait was cancelled."""
        granted = None if self._slot is None else self._slot.end_wait()
        if granted is not None and not isinstance(error, asyncio.CancelledError):
            await asyncio.wait({granted})  # cancelling this wait must not cancel `granted`, which is still to be set


class HandlingSlots:
    """The handling slots of one consumer.

    Args:
        total: Number of slots.
        max_parked: How many messages may be parked.
        max_parked_bytes: The same bound in bytes of these messages.
        on_change: Called when a slot is free, or a message was parked.
    """

    def __init__(self, total: int, *, max_parked: int, max_parked_bytes: int, on_change: Callable[[], None]) -> None:
        self.parked_count = 0
        """Messages that hold no slot, including those that are resuming."""
        self.parked_bytes = 0
        self._total = total
        self._max_parked = max_parked
        self._max_parked_bytes = max_parked_bytes
        self._on_change = on_change
        self._taken = 0
        self._waiting: dict[Slot, None] = {}  # ordered by when they started to wait
        self._resuming: dict[Slot, asyncio.Future[None]] = {}  # ordered by when their waits ended

    @property
    def free(self) -> bool:
        """Whether a new message may start."""
        return self._taken < self._total  # never true while a message is resuming

    @property
    def exhausted(self) -> bool:
        """Whether every slot is held by a message that only waits, and no more messages may be parked."""
        return not self.free and len(self._waiting) == self._taken

    def acquire(self, size: int) -> "Slot":
        """Take a slot for a new message of `size` bytes. It must be released."""
        self._taken += 1
        return Slot(self, size)

    # -- for slots ------------------------------------------------------------------------------------------------

    def start_wait(self, slot: "Slot") -> None:
        """Mark a message as waiting."""
        if slot.is_parked:  # it was resuming because another of its waits had ended
            self._resuming.pop(slot).set_result(None)
            return
        self._waiting[slot] = None
        self._reassign_slots()

    def end_wait(self, slot: "Slot") -> "asyncio.Future[None] | None":
        """Mark a message as no longer waiting; return a future that is done when it has a slot. None = it has one."""
        self._waiting.pop(slot, None)
        if not slot.is_parked:
            return None
        granted = self._resuming[slot] = asyncio.get_running_loop().create_future()
        self._reassign_slots()
        return granted

    def release(self, slot: "Slot") -> None:
        """Free the slot of a finished message."""
        self._waiting.pop(slot, None)
        if slot.is_parked:
            self._unpark(slot)
        self._taken -= 1
        self._reassign_slots()

    def _reassign_slots(self) -> None:
        """Park as many as allowed, and give free slots to resuming messages; the rest is for new messages."""
        while self._waiting and self._has_room_for(slot := next(iter(self._waiting))):
            self._park(slot)
        while self._resuming and (self._taken < self._total or self._waiting):
            if self._taken >= self._total:
                self._park(next(iter(self._waiting)))  # swap them
            self._unpark(next(iter(self._resuming)))
        self._on_change()

    def _has_room_for(self, slot: "Slot") -> bool:
        return self.parked_count < self._max_parked and self.parked_bytes + slot.size <= self._max_parked_bytes

    def _park(self, slot: "Slot") -> None:
        del self._waiting[slot]
        slot.is_parked = True
        self.parked_count += 1
        self.parked_bytes += slot.size
        self._taken -= 1

    def _unpark(self, slot: "Slot") -> None:
        slot.is_parked = False
        self.parked_count -= 1
        self.parked_bytes -= slot.size
        self._taken += 1
        if (granted := self._resuming.pop(slot, None)) is not None:
            granted.set_result(None)


class Slot:
    """The slot of one message, and how many of its handler's concurrent waits are in progress."""

    def __init__(self, slots: HandlingSlots, size: int) -> None:
        self.size = size
        self.is_parked = False
        self._slots = slots
        self._waits = 0
        self._closed = False

    def activate(self) -> None:
        """Make this the slot that `parked` releases, in this task and in those that it creates."""
        _slot.set(self)

    def start_wait(self) -> None:
        """Start a wait."""
        self._waits += 1
        if self._waits == 1 and not self._closed:
            self._slots.start_wait(self)

    def end_wait(self) -> "asyncio.Future[None] | None":
        """End a wait; if it was the last, return a future that is done when the handler has a slot. None = it has."""
        self._waits -= 1
        return None if self._waits or self._closed else self._slots.end_wait(self)

    def release(self) -> None:
        """Finish the message. Tasks that its handler may have left behind hold no slot."""
        self._closed = True
        self._slots.release(self)
