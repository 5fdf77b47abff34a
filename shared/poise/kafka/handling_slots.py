"""Handling slots: how many messages of one consumer are handled at once. A handler that only waits gives its slot back.

    taken      the message is being handled; a new one begins only while a slot is free
    parked     its handler waits (for a reply, for a time, for another worker): the slot is free for others
    holding    its handler waits, and as many are parked as may be: it keeps its slot
    resuming   what it waited for has come: it gets the next slot that is free, before any new message does

Where all that hold a slot only wait, a new message has to wait for one of them, however long that takes: `exhausted`.

A wait that is cancelled (a deadline, a cancel, a worker that stops) ends at once: what follows is a fault or the way
out, and nobody is to wait for that. The handler goes on, and has the next slot that is free all the same.
"""

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from types import TracebackType

_slot: ContextVar["Slot | None"] = ContextVar("slot", default=None)


def parked() -> "Parked":
    """Hold no slot inside, where the handler waits for something that needs nothing of this process.

    Where a handler does several things at once, it counts as waiting as long as one of them does. Outside a handler,
    and inside another one of these, it does nothing.
    """
    return Parked(_slot.get())


class Parked:
    """The time in which a message holds no slot."""

    def __init__(self, slot: "Slot | None") -> None:
        self._slot = slot

    async def __aenter__(self) -> None:
        """Give the slot back."""
        if self._slot is not None:
            self._slot.wait()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Take a slot again, behind those who came before; at once if the wait was cancelled."""
        granted = None if self._slot is None else self._slot.resume()
        if granted is not None and not isinstance(error, asyncio.CancelledError):
            await asyncio.wait({granted})  # if this is cancelled, what it waits for must not be: it is still to come


class HandlingSlots:
    """The slots of one consumer.

    Args:
        total: How many there are.
        parked: How many messages may be parked.
        parked_bytes: The same bound in bytes of these messages.
        changed: Told when a slot is free, or a message was parked.
    """

    def __init__(self, total: int, *, parked: int, parked_bytes: int, on_change: Callable[[], None]) -> None:
        self.parked = 0
        """Messages that hold no slot now, those that resume included."""
        self.parked_bytes = 0
        self._total = total
        self._max_parked = parked
        self._max_parked_bytes = parked_bytes
        self._on_change = on_change
        self._taken = 0
        self._holding: dict[Slot, None] = {}  # in the order in which they began to wait
        self._resuming: dict[Slot, asyncio.Future[None]] = {}  # in the order in which their waits ended

    @property
    def free(self) -> bool:
        """Whether a new message may begin."""
        return self._taken < self._total  # none is left while something resumes

    @property
    def exhausted(self) -> bool:
        """Whether every slot is held by a message that only waits, and no more may be parked."""
        return not self.free and len(self._holding) == self._taken

    def acquire(self, size: int) -> "Slot":
        """Take a slot for a message of so many bytes that begins; it must be closed."""
        self._taken += 1
        return Slot(self, size)

    # -- for slots ------------------------------------------------------------------------------------------------

    def wait(self, slot: "Slot") -> None:
        """A message begins to wait."""
        if slot.parked:  # it was to go on with something else: now it waits again
            self._resuming.pop(slot).set_result(None)
            return
        self._holding[slot] = None
        self._rebalance()

    def resume(self, slot: "Slot") -> "asyncio.Future[None] | None":
        """A message is to go on; what is returned is done when it has a slot. None = it has one."""
        self._holding.pop(slot, None)
        if not slot.parked:
            return None
        granted = self._resuming[slot] = asyncio.get_running_loop().create_future()
        self._rebalance()
        return granted

    def release(self, slot: "Slot") -> None:
        """A message is done with."""
        self._holding.pop(slot, None)
        if slot.parked:
            self._unpark(slot)
        self._taken -= 1
        self._rebalance()

    def _rebalance(self) -> None:
        """Park what may be parked, and give free slots to those that resume; what is left is for new messages."""
        while self._holding and self._has_room_for(slot := next(iter(self._holding))):
            self._park(slot)
        while self._resuming and (self._taken < self._total or self._holding):
            if self._taken >= self._total:
                self._park(next(iter(self._holding)))  # they change places
            self._unpark(next(iter(self._resuming)))
        self._on_change()

    def _has_room_for(self, slot: "Slot") -> bool:
        return self.parked < self._max_parked and self.parked_bytes + slot.size <= self._max_parked_bytes

    def _park(self, slot: "Slot") -> None:
        del self._holding[slot]
        slot.parked = True
        self.parked += 1
        self.parked_bytes += slot.size
        self._taken -= 1

    def _unpark(self, slot: "Slot") -> None:
        slot.parked = False
        self.parked -= 1
        self.parked_bytes -= slot.size
        self._taken += 1
        if (granted := self._resuming.pop(slot, None)) is not None:
            granted.set_result(None)


class Slot:
    """One message's slot, and how many of the things that its handler does at once wait."""

    def __init__(self, slots: HandlingSlots, size: int) -> None:
        self.size = size
        self.parked = False
        self._slots = slots
        self._waits = 0
        self._closed = False

    def activate(self) -> None:
        """Be the slot that `parked` gives back, in this task and in those that it makes."""
        _slot.set(self)

    def wait(self) -> None:
        """One more waits."""
        self._waits += 1
        if self._waits == 1 and not self._closed:
            self._slots.wait(self)

    def resume(self) -> "asyncio.Future[None] | None":
        """One waits no more; if it was the last, the handler is to go on, when what is returned is done."""
        self._waits -= 1
        return None if self._waits or self._closed else self._slots.resume(self)

    def release(self) -> None:
        """The message is done with; what its handler may have left behind holds no slot."""
        self._closed = True
        self._slots.release(self)
