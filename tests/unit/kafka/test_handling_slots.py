"""Handling slots: which messages hold one, which wait without one, and which is next."""

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import Self

from hypothesis import given
from hypothesis import strategies as st

from poise.kafka.handling_slots import HandlingSlots, Slot, parked

SlotHandler = Callable[[], Awaitable[None]]


class SlotConsumer:
    """Messages that wait for a slot, as in a consumer; each is a handler."""

    def __init__(self, total: int, *, most: int = 100, most_bytes: int = 1_000) -> None:
        self.slots = HandlingSlots(total, max_parked=most, max_parked_bytes=most_bytes, on_change=self._start)
        self.tasks: list[asyncio.Task[None]] = []
        self._queue: list[tuple[SlotHandler, int]] = []

    def add(self, *handlers: SlotHandler, size: int = 1) -> None:
        """Queue messages."""
        self._queue += [(handler, size) for handler in handlers]
        self._start()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._queue.clear()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    def _start(self) -> None:
        while self._queue and self.slots.free:
            handler, size = self._queue.pop(0)
            self.tasks.append(asyncio.create_task(self._work(handler, self.slots.acquire(size))))

    @staticmethod
    async def _work(handler: SlotHandler, slot: Slot) -> None:
        slot.activate()
        try:
            await handler()
        finally:
            slot.release()


async def run_ready_tasks() -> None:
    """Let every task run as far as it can."""
    for _ in range(50):
        await asyncio.sleep(0)


class Waiter:
    """A handler that is parked until an event, and then works until another one."""

    def __init__(self) -> None:
        self.come, self.end = asyncio.Event(), asyncio.Event()
        self.state = "queued"

    async def __call__(self) -> None:
        self.state = "waits"
        if not self.come.is_set():
            async with parked():
                await self.come.wait()
        self.state = "works"
        await self.end.wait()
        self.state = "ended"


async def test_a_waiting_handler_holds_no_slot_and_resumes_before_new_messages() -> None:
    waiters, busy = [Waiter() for _ in range(5)], [Waiter() for _ in range(3)]
    async with SlotConsumer(2) as consumer:
        for one in busy:
            one.come.set()
        consumer.add(*waiters)
        await run_ready_tasks()
        assert [one.state for one in waiters] == ["waits"] * 5  # though there are two slots
        consumer.add(*busy)
        await run_ready_tasks()
        assert [one.state for one in busy] == ["works", "works", "queued"]
        waiters[0].come.set()
        await run_ready_tasks()
        assert waiters[0].state == "waits"
        busy[0].end.set()
        await run_ready_tasks()
        assert (waiters[0].state, busy[2].state) == ("works", "queued")


async def test_parking_is_bounded_and_a_resuming_message_swaps_with_a_holding_one() -> None:
    waiters = [Waiter() for _ in range(4)]
    async with SlotConsumer(2, most=1) as consumer:
        consumer.add(*waiters)
        await run_ready_tasks()
        assert [one.state for one in waiters] == ["waits", "waits", "waits", "queued"]
        assert consumer.slots.parked_count == 1
        waiters[0].come.set()
        await run_ready_tasks()
        assert waiters[0].state == "works"
        assert consumer.slots.parked_count == 1


async def test_slots_are_exhausted_while_waiting_messages_hold_them_all() -> None:
    waiters, seen = [Waiter() for _ in range(3)], []
    async with SlotConsumer(2, most=1) as consumer:

        async def see() -> None:
            await run_ready_tasks()
            seen.append(consumer.slots.exhausted)

        consumer.add(*waiters[:2])
        await see()  # one is parked, one waits in its slot, and one slot is free
        consumer.add(waiters[2])
        await see()
        waiters[0].come.set()
        await see()  # it works, swapped with one that waits
        waiters[0].end.set()
        await see()
    assert seen == [False, True, False, False]


async def test_parked_is_bounded_by_bytes() -> None:
    waiters = [Waiter() for _ in range(3)]
    async with SlotConsumer(1, most_bytes=10) as consumer:
        consumer.add(*waiters, size=6)
        await run_ready_tasks()
        assert [one.state for one in waiters] == ["waits", "waits", "queued"]
        assert consumer.slots.parked_bytes == 6


async def test_a_wait_that_is_cancelled_ends_without_a_slot() -> None:
    resumes, busy, late, told = Waiter(), Waiter(), asyncio.Event(), asyncio.Event()
    busy.come.set()

    async def expires() -> None:
        try:
            async with asyncio.timeout(None) as scope, parked():
                await late.wait()
                scope.reschedule(asyncio.get_running_loop().time())
                await asyncio.Event().wait()
        except TimeoutError:
            told.set()

    async with SlotConsumer(1) as consumer:
        consumer.add(resumes, expires, busy)
        await run_ready_tasks()
        late.set()
        resumes.come.set()
        await run_ready_tasks()
        assert told.is_set()
        consumer.tasks[0].cancel()  # it is resuming, and no slot is free
        await run_ready_tasks()
        assert consumer.tasks[0].cancelled()
        assert busy.state == "works"
        busy.end.set()
        await run_ready_tasks()
        assert consumer.slots.free


async def test_a_handler_counts_as_waiting_while_one_of_its_tasks_waits() -> None:
    other = Waiter()
    async with SlotConsumer(1) as consumer:
        first, second, done = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def wait(event: asyncio.Event) -> None:
            async with parked():
                async with parked():
                    await asyncio.sleep(0)
                await event.wait()

        async def both() -> None:
            await asyncio.gather(wait(first), wait(second))
            done.set()

        other.come.set()
        consumer.add(both, other)
        await run_ready_tasks()
        assert other.state == "works"
        first.set()
        await run_ready_tasks()
        second.set()
        await run_ready_tasks()
        assert not done.is_set()
        other.end.set()
        await run_ready_tasks()
        assert done.is_set()


async def test_a_resuming_message_that_waits_again_needs_no_slot() -> None:
    busy, begun, first, again, went_on = Waiter(), *(asyncio.Event() for _ in range(4))
    busy.come.set()

    async def part() -> None:
        async with parked():
            await begun.wait()
        await again.wait()
        async with parked():
            await asyncio.Event().wait()

    async def whole() -> None:
        concurrent = asyncio.create_task(part())
        async with parked():
            await first.wait()
        went_on.set()
        await concurrent

    async with SlotConsumer(1) as consumer:
        consumer.add(whole, busy)
        await run_ready_tasks()
        begun.set()
        first.set()
        await run_ready_tasks()
        assert not went_on.is_set()
        again.set()
        await run_ready_tasks()
        assert went_on.is_set()
        assert busy.state == "works"


async def test_tasks_that_outlive_their_handler_take_no_slot() -> None:
    behind = asyncio.Event()
    async with SlotConsumer(1) as consumer:
        left: list[asyncio.Task[None]] = []

        async def waits() -> None:
            async with parked():
                await behind.wait()
            async with parked():
                await asyncio.sleep(0)

        async def leaves() -> None:
            left.append(asyncio.create_task(waits()))
            await asyncio.sleep(0)

        consumer.add(leaves)
        await run_ready_tasks()
        assert (consumer.slots.parked_count, consumer.slots.free) == (0, True)
        behind.set()
        await left[0]
        assert (consumer.slots.parked_count, consumer.slots.free) == (0, True)


class Steps:
    """The steps of a handler. Each one blocks until it is released."""

    def __init__(self, slots: int) -> None:
        self.blocked: list[asyncio.Event] = []
        self._slots = slots
        self._working = 0

    async def _pause(self) -> None:
        self.blocked.append(event := asyncio.Event())
        await event.wait()

    async def work(self) -> None:
        """Work; check that no more handlers work than there are slots."""
        self._working += 1
        assert self._working <= self._slots
        await self._pause()
        self._working -= 1

    async def wait(self) -> None:
        """Wait, parked, until the step is released."""
        async with parked():
            await self._pause()

    async def both(self) -> None:
        """Wait for two events at once."""
        await asyncio.gather(self.wait(), self.wait())

    async def cut(self) -> None:
        """Wait for two events until one arrives, cancel the other wait, then wait for a third event."""
        waiting = asyncio.create_task(self.wait())
        await self.wait()
        waiting.cancel()
        await asyncio.wait({waiting})
        await self.wait()  # from here on it has its own slot, even if it continued without one

    def handler(self, program: list[str]) -> SlotHandler:
        """Return a handler that executes the given steps in order."""

        async def handle() -> None:
            for step in program:
                await getattr(self, step)()

        return handle


@given(
    programs=st.lists(st.lists(st.sampled_from(["work", "wait", "both", "cut"]), max_size=5), max_size=12),
    total=st.integers(1, 3),
    most=st.integers(0, 4),
    order=st.randoms(use_true_random=False),
)
def test_work_never_exceeds_the_slots_and_all_of_it_ends(
    programs: list[list[str]], total: int, most: int, order: Random
) -> None:
    async def run() -> None:
        steps = Steps(total)
        async with SlotConsumer(total, most=most) as consumer:
            consumer.add(*map(steps.handler, programs))
            await run_ready_tasks()
            while steps.blocked:
                assert consumer.slots.parked_count <= most
                steps.blocked.pop(order.randrange(len(steps.blocked))).set()
                await run_ready_tasks()
            assert len(consumer.tasks) == len(programs)
            await asyncio.gather(*consumer.tasks)
            assert consumer.slots.free
            assert (consumer.slots.parked_count, consumer.slots.parked_bytes) == (0, 0)

    asyncio.run(run())
