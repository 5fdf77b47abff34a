"""Replay: any program of steps, interrupted anywhere and restarted, sees the same and repeats no finished step."""

import asyncio
import itertools
import random
from collections.abc import Coroutine
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from memory_journal import CrashingJournal, Do, RandomCallContext, StoredJournal

from poise.contracts.topics import RECORDS
from poise.errors import PoiseError
from poise.workflows.run import Run

Node = tuple[Any, ...]

KINDS = ["seq", "gather", "race", "group", "as completed", "overtaken", "shielded"]
MAX_ITERATIONS = 20_000
"""Event loop iterations after which a run counts as hanging; the longest of these takes a tenth of them."""

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
    """A workflow that executes a tree and records all that it sees."""

    def __init__(self, run: Run, context: RandomCallContext) -> None:
        self.run = run
        self.seen: list[object] = []
        self._context = context
        self._recording = True

    async def execute(self, node: Node) -> object:
        """Execute the tree. Tasks that outlive it continue, but what they see is not recorded."""
        try:
            return await self.do(node)
        finally:
            self._recording = False

    async def do(self, node: Node) -> object:
        try:
            saw = await self._do(node)
        except PoiseError as error:
            saw = f"{type(error).__name__} {error}"
        self._see(saw)
        return saw

    def _see(self, saw: object) -> None:
        if self._recording:
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
        """Run two nested timeouts that fire at the same moment."""
        return await self._timeout(("timeout", inner))

    async def _map(self, numbers: list[int], width: int, fails: bool) -> object:
        requests = [Do(number=number, fails=fails and number > 2) for number in numbers]
        return [reply.number for reply in await self.run.map(requests, width=width)]

    async def _seq(self, nodes: list[Node]) -> object:
        return [await self.do(inner) for inner in nodes]

    async def _function(self, number: int) -> tuple[int, float]:
        for _ in range(self._context.chance.randrange(40)):
            await asyncio.sleep(0)
        self._context.called.append(f"local {number}")
        return number, self._context.chance.random()  # non-deterministic

    async def _gather(self, work: list[Coroutine[Any, Any, object]]) -> object:
        return list(await asyncio.gather(*work))

    async def _as_completed(self, work: list[Coroutine[Any, Any, object]]) -> object:
        # Started here, since as_completed() starts coroutines in no fixed order.
        tasks = [asyncio.ensure_future(coroutine) for coroutine in work]
        try:
            return [await coroutine for coroutine in asyncio.as_completed(tasks)]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _race(self, work: list[Coroutine[Any, Any, object]]) -> object:
        tasks = [asyncio.ensure_future(coroutine) for coroutine in work]
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
        """Let each task that finishes cancel the later ones; a cancelled task runs one more step."""
        tasks: list[asyncio.Task[object]] = []

        async def run_and_cancel_later(number: int, coroutine: Coroutine[Any, Any, object]) -> object:
            try:
                saw = await coroutine
            except asyncio.CancelledError:
                self._see(f"{number} was cancelled")
                await self.run.now()  # a cancelled task continues
                raise
            for later in tasks[number + 1 :]:
                later.cancel()
            return saw

        tasks += [
            asyncio.ensure_future(run_and_cancel_later(number, coroutine)) for number, coroutine in enumerate(work)
        ]
        try:
            await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            for task in tasks:
                task.cancel()
            for coroutine in work:  # for tasks that were cancelled before they started
                coroutine.close()
        return [task.cancelled() for task in tasks]

    async def _shielded(self, work: list[Coroutine[Any, Any, object]]) -> object:
        """Shield tasks from the cancellation of their caller, then await them."""
        tasks = [asyncio.ensure_future(coroutine) for coroutine in work]
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
                tasks = [group.create_task(coroutine) for coroutine in work]
        except* ZeroDivisionError:
            # Python 3.11: a group that fails while its block exits cancels its own task and leaves that counted, so
            # that a surrounding timeout, asyncio's too, does not raise TimeoutError.
            while task.cancelling() > cancelling:
                task.uncancel()
        return [task.cancelled() for task in tasks]


async def execute(
    program: Node, stored: StoredJournal, seed: int, crash_after: int | None
) -> tuple[bool, list[object]]:
    """Run one execution; return whether it finished, and what it saw."""
    recorded = set(stored.entries)
    chance = random.Random(seed)
    context, journal = RandomCallContext(chance), CrashingJournal(stored, chance, crash_after=crash_after)
    run = Run(context, journal)
    workflow = Program(run, context)
    task = asyncio.ensure_future(run.execute(workflow.execute(program)))
    saw: list[object] | None = None

    def crash() -> None:
        nonlocal saw
        saw = list(workflow.seen)
        task.cancel()

    journal.crash = crash
    for _ in range(MAX_ITERATIONS):
        if task.done():
            break
        await asyncio.sleep(0)
    assert task.done(), f"it hangs, having seen {workflow.seen}"
    if saw is None:
        await task
    assert not recorded & set(context.called), "a finished step is repeated"
    return saw is None, workflow.seen if saw is None else saw


@settings(max_examples=150)
@given(PROGRAMS, st.integers(0, 2**32), st.lists(st.integers(1, 6), max_size=6))
def test_an_interrupted_program_is_replayed_identically(program: Node, seed: int, crashes: list[int]) -> None:
    async def scenario() -> None:
        stored, before = StoredJournal(), list[object]()
        for number, after in enumerate(itertools.chain(crashes, [None])):
            ended, seen = await execute(program, stored, seed + number, after)
            assert seen[: len(before)] == before
            before = seen
            if ended:
                break
        assert ended
        entries = set(stored.entries)
        again, seen = await execute(program, stored, seed - 1, None)
        assert (again, seen) == (True, before)
        assert set(stored.entries) == entries

    asyncio.run(scenario())
