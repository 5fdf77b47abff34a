"""Any program of steps that is interrupted anywhere and begun again: it sees the same, and pays only for the rest."""

import asyncio
import itertools
import random
from collections.abc import Coroutine
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from memory_journal import Do, MemoryJournal, RandomCallContext, StoredJournal

from poise.contracts.topics import RECORDS
from poise.errors import PoiseError
from poise.workflows.run import Run

Node = tuple[Any, ...]

KINDS = ["seq", "gather", "race", "group", "as completed", "overtaken", "shielded"]
TURNS = 20_000
"""Turns of the event loop after which a run hangs; the longest of these takes a tenth of them."""

LEAVES = st.one_of(
    st.tuples(st.just("call"), st.integers(0, 5), st.booleans()),
    st.tuples(st.just("local"), st.integers(0, 5)),
    st.tuples(st.just("map"), st.lists(st.integers(0, 5), max_size=4), st.integers(1, 3), st.booleans()),
    st.tuples(st.sampled_from(["now", "random", "publish", "sleep"])),
)
PROGRAMS = st.recursive(
    LEAVES,
    lambda nodes: st.one_of(
        st.tuples(st.sampled_from(KINDS), st.lists(nodes, max_size=4)),
        st.tuples(st.sampled_from(["timeout", "inner timeout"]), nodes),
    ),
    max_leaves=12,
)


class Program:
    """A workflow that does what a tree says, and writes down all that it sees."""

    def __init__(self, run: Run, context: RandomCallContext) -> None:
        self.run = run
        self.seen: list[object] = []
        self._door = context
        self._writes_down = True

    async def whole(self, node: Node) -> object:
        """What is left behind goes on, and sees what it sees: that counts for nothing any more."""
        try:
            return await self.do(node)
        finally:
            self._writes_down = False

    async def do(self, node: Node) -> object:
        try:
            saw = await self._do(node)
        except PoiseError as error:
            saw = f"{type(error).__name__} {error}"
        self._see(saw)
        return saw

    def _see(self, saw: object) -> None:
        if self._writes_down:
            self.seen.append(saw)

    async def _do(self, node: Node) -> object:
        kind, *rest = node
        if kind in KINDS and kind != "seq":
            rest = [[self.do(inner) for inner in rest[0]]]
        return await getattr(self, f"_{kind.replace(' ', '_')}")(*rest)

    async def _call(self, number: int, fails: bool) -> object:
        return (await self.run.call(Do(number=number, fails=fails))).number

    async def _local(self, number: int) -> object:
        return await self.run.step("local", self._function, number)

    async def _now(self) -> object:
        return await self.run.now()

    async def _random(self) -> object:
        return self.run.random.random(), str(self.run.uuid())

    async def _publish(self) -> object:
        return await self.run.publish(RECORDS, None, key="k")

    async def _sleep(self) -> object:
        await self.run.sleep(0)
        return "slept"

    async def _timeout(self, inner: Node) -> object:
        try:
            async with self.run.timeout(0):
                return await self.do(inner)
        except TimeoutError:
            return "timeout"

    async def _inner_timeout(self, inner: Node) -> object:
        """Two that are over at the same moment."""
        return await self._timeout(("timeout", inner))

    async def _map(self, numbers: list[int], width: int, fails: bool) -> object:
        requests = [Do(number=number, fails=fails and number > 2) for number in numbers]
        return [reply.number for reply in await self.run.map(requests, width=width)]

    async def _seq(self, nodes: list[Node]) -> object:
        return [await self.do(inner) for inner in nodes]

    async def _function(self, number: int) -> tuple[int, float]:
        for _ in range(self._door.chance.randrange(40)):
            await asyncio.sleep(0)
        self._door.called.append(f"local {number}")
        return number, self._door.chance.random()  # not the same twice

    async def _gather(self, work: list[Coroutine[Any, Any, object]]) -> object:
        return list(await asyncio.gather(*work))

    async def _as_completed(self, work: list[Coroutine[Any, Any, object]]) -> object:
        tasks = [asyncio.ensure_future(one) for one in work]  # here: as_completed() begins coroutines in no fixed order
        try:
            return [await one for one in asyncio.as_completed(tasks)]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _race(self, work: list[Coroutine[Any, Any, object]]) -> object:
        tasks = [asyncio.ensure_future(one) for one in work]
        if not tasks:
            return None
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return [number for number, task in enumerate(tasks) if task in done]

    async def _overtaken(self, work: list[Coroutine[Any, Any, object]]) -> object:
        """Whoever comes first cancels those that began after it, one after another, and does something more."""
        tasks: list[asyncio.Task[object]] = []

        async def lane(number: int, one: Coroutine[Any, Any, object]) -> object:
            try:
                saw = await one
            except asyncio.CancelledError:
                self._see(f"{number} was cancelled")
                await self.run.now()  # who is cancelled goes on
                raise
            for later in tasks[number + 1 :]:
                later.cancel()
            return saw

        tasks += [asyncio.ensure_future(lane(number, one)) for number, one in enumerate(work)]
        try:
            await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            for task in tasks:
                task.cancel()
            for one in work:  # of a lane that was cancelled before it began
                one.close()
        return [task.cancelled() for task in tasks]

    async def _shielded(self, work: list[Coroutine[Any, Any, object]]) -> object:
        """What goes on though who waits for it is cancelled, and is waited for then."""
        tasks = [asyncio.ensure_future(one) for one in work]
        try:
            return [await asyncio.shield(task) for task in tasks]
        finally:
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _group(self, work: list[Coroutine[Any, Any, object]]) -> object:
        async def fail() -> None:
            await self.do(("call", 9, False))
            raise ZeroDivisionError

        task = asyncio.current_task()
        assert task is not None
        cancelling = task.cancelling()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(fail())
                tasks = [group.create_task(one) for one in work]
        except* ZeroDivisionError:
            # Python 3.11: a group that fails while it is left cancels its own task and leaves that counted, so that a
            # timeout around it, asyncio's too, is no TimeoutError.
            while task.cancelling() > cancelling:
                task.uncancel()
        return [task.cancelled() for task in tasks]


async def execute(
    program: Node, stored: StoredJournal, seed: int, crash_after: int | None
) -> tuple[bool, list[object]]:
    """One execution; whether it came to its end, and what it saw."""
    recorded = set(stored.entries)
    chance = random.Random(seed)
    context, history = RandomCallContext(chance), MemoryJournal(stored, chance, crash_after=crash_after)
    run = Run(context, history)
    workflow = Program(run, context)
    doing = asyncio.ensure_future(run.execute(workflow.whole(program)))
    saw: list[object] | None = None

    def crash() -> None:
        nonlocal saw
        saw = list(workflow.seen)
        doing.cancel()

    history.crash = crash
    for _ in range(TURNS):
        if doing.done():
            break
        await asyncio.sleep(0)
    assert doing.done(), f"it hangs, having seen {workflow.seen}"
    if saw is None:
        await doing
    assert not recorded & set(context.called), "a step that was finished is paid again"
    return saw is None, workflow.seen if saw is None else saw


@settings(max_examples=150)
@given(PROGRAMS, st.integers(0, 2**32), st.lists(st.integers(1, 6), max_size=6))
def test_whatever_is_interrupted_goes_on_as_it_went(program: Node, seed: int, crashes: list[int]) -> None:
    async def scenario() -> None:
        stored, before = StoredJournal(), list[object]()
        for number, after in enumerate(itertools.chain(crashes, [None])):
            ended, seen = await execute(program, stored, seed + number, after)
            assert seen[: len(before)] == before
            before = seen
            if ended:
                break
        assert ended
        kept = set(stored.entries)
        again, seen = await execute(program, stored, seed - 1, None)
        assert (again, seen) == (True, before)
        assert set(stored.entries) == kept

    asyncio.run(scenario())
