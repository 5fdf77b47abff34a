"""Unusual workflows: none hangs, and every replay sees the same."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from memory_journal import CrashingJournal, Do, RandomCallContext, StoredJournal, run_with
from pydantic_core import from_json, to_json

from poise.errors import NonDeterminismError, PoiseError
from poise.redis.journal import JournalEntry
from poise.rpc.client import CallOptions
from poise.workflows.run import Run

Body = Callable[[Run], Awaitable[Any]]
MAX_ITERATIONS = 5_000


async def wait_until_done(task: "asyncio.Future[Any]") -> None:
    """Wait for a task for a large number of event loop iterations; fail if it hangs."""
    for _ in range(MAX_ITERATIONS):
        if task.done():
            return
        await asyncio.sleep(0)
    pytest.fail("it hangs")


async def yield_to_loop(number: int = 200) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


async def execute(stored: StoredJournal, body: Body, seed: int = 0) -> Any:
    run, _ = run_with(stored, seed)
    task = asyncio.ensure_future(run.execute(_coroutine(body, run)))
    await wait_until_done(task)
    return task.result()


async def _coroutine(body: Body, run: Run) -> Any:
    return await body(run)


async def wait_forever() -> int:
    await asyncio.Event().wait()
    return 0


class SlowJournal(CrashingJournal):
    """A journal whose first abandonments take longest to write."""

    async def write(self, step: str, entry: JournalEntry) -> bool:
        written = await super().write(step, entry)
        await yield_to_loop({"first": 60, "second": 30}.get(step, 0))
        return written


async def test_steps_abandoned_at_once_continue_in_the_same_order_in_a_replay() -> None:
    def body(seen: list[str]) -> Body:
        async def wait_in_step(run: Run, name: str) -> None:
            try:
                await run.step(name, wait_forever, id=name)
            finally:
                seen.append(name)

        async def work(run: Run) -> None:
            tasks = [asyncio.ensure_future(wait_in_step(run, name)) for name in ("first", "second", "third")]
            await run.call(Do(number=1))
            for one in tasks:
                one.cancel()
            await asyncio.wait(tasks)

        return work

    stored, seen, again = StoredJournal(), list[str](), list[str]()
    chance = random.Random(0)
    run = Run(RandomCallContext(chance), SlowJournal(stored, chance))
    await run.execute(_coroutine(body(seen), run))
    await execute(stored, body(again))
    assert seen == again == ["first", "second", "third"]


async def test_swapped_steps_are_non_deterministic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("poise.workflows.step_executor.STALL_TIMEOUT", 0.05)

    def body(*numbers: int) -> Body:
        async def work(run: Run) -> None:
            for number in numbers:
                await run.call(Do(number=number), id=f"step-{number}")

        return work

    stored = StoredJournal()
    await execute(stored, body(1, 2))
    run, _ = run_with(stored)
    with pytest.raises(NonDeterminismError, match=r"step step-1 .* is next .* step step-2"):
        await run.execute(_coroutine(body(2, 1), run))


async def _grouped(run: Run, *, three_steps: bool) -> None:
    """Run a task group in which one task fails while another runs a step.

    With `three_steps`, a third task runs a step too.
    """

    async def fail() -> None:
        await run.call(Do(number=1), id="one")
        raise ZeroDivisionError

    async def last() -> None:
        try:
            await run.step("ever", wait_forever, id="ever")
        finally:
            await run.now()

    async with asyncio.TaskGroup() as group:
        group.create_task(fail())
        if three_steps:
            group.create_task(_coroutine(lambda run: run.call(Do(number=2), id="two"), run))
        group.create_task(last())


async def grouped_journal() -> StoredJournal:
    """Return a journal in which a step is abandoned after another that the workflow no longer requests."""
    stored = StoredJournal()
    with pytest.raises(ExceptionGroup):
        await execute(stored, lambda run: _grouped(run, three_steps=True))
    one, two, given = (stored.entries[step] for step in ("one", "two", "ever"))
    assert given.outcome == "given-up"
    stored.entries["one"] = JournalEntry(1, "value", one.description, one.digest, 1.0, b'{"number": 1}')
    stored.entries["two"] = JournalEntry(2, "value", two.description, two.digest, 1.0, b'{"number": 2}')
    stored.entries["ever"] = JournalEntry(3, "given-up", given.description, given.digest, 1.0)
    return stored


async def test_an_interrupted_run_ends_while_a_step_waits_to_be_abandoned() -> None:
    run, _ = run_with(await grouped_journal())
    task = asyncio.ensure_future(run.execute(_grouped(run, three_steps=False)))
    await yield_to_loop()
    assert not task.done()
    task.cancel()
    await wait_until_done(task)
    with pytest.raises(
        ExceptionGroup, match="TaskGroup"
    ):  # the task group's; an interrupted run need not request all steps
        await task


async def test_non_determinism_is_found_when_only_abandoned_steps_remain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("poise.workflows.step_executor.STALL_TIMEOUT", 0.05)
    run, _ = run_with(await grouped_journal())
    with pytest.raises(NonDeterminismError, match=r"step two .* is next"):
        await run.execute(_grouped(run, three_steps=False))


async def test_a_reply_that_cannot_be_encoded_does_not_block_other_steps() -> None:
    class Broken(RandomCallContext):
        async def call(self, request: Any, options: CallOptions) -> Any:
            return await super().call(request, options) if request.number else object()

    chance = random.Random(0)
    run = Run(Broken(chance), CrashingJournal(StoredJournal(), chance))

    async def body() -> Any:
        return await asyncio.gather(run.call(Do(number=0)), run.call(Do(number=1)), return_exceptions=True)

    task = asyncio.ensure_future(run.execute(body()))
    await wait_until_done(task)
    bug, done = task.result()
    assert (type(bug), done.number) == (AttributeError, 1)


class Stop(BaseException):
    """A stand-in for `KeyboardInterrupt`, which ends the event loop."""


async def test_a_base_exception_ends_the_run_and_its_step_is_not_journaled() -> None:
    async def stop() -> int:
        raise Stop

    stored = StoredJournal()

    async def body(run: Run) -> Any:
        await run.call(Do(number=1), id="one")
        return await asyncio.gather(run.step("ever", wait_forever), run.step("stop", stop))

    with pytest.raises(Stop):
        await execute(stored, body)
    assert list(stored.entries) == ["one"]


async def test_a_workflow_that_catches_its_cancellation_runs_no_more_steps() -> None:
    stored = StoredJournal()

    async def body(run: Run) -> int:
        try:
            await run.step("ever", wait_forever)
        except asyncio.CancelledError:
            return (await run.call(Do(number=1))).number
        return 0

    run, context = run_with(stored)
    task = asyncio.ensure_future(run.execute(_coroutine(body, run)))
    await yield_to_loop()
    task.cancel()
    await wait_until_done(task)
    assert task.cancelled()
    assert (context.called, stored.entries) == ([], {})


async def test_tasks_may_outlive_the_workflow_and_be_cancelled_later() -> None:
    left: list[asyncio.Task[Any]] = []

    async def body(run: Run) -> int:
        left.append(asyncio.ensure_future(run.step("ever", wait_forever)))
        left.append(asyncio.ensure_future(asyncio.shield(run.call(Do(number=2)))))
        return (await run.call(Do(number=1))).number

    stored = StoredJournal()
    for seed in range(5):
        assert await execute(stored, body, seed) == 1
        for task in left:
            task.cancel()
        await wait_until_done(asyncio.gather(*left, return_exceptions=True))


async def test_non_determinism_inside_gather_reaches_the_caller() -> None:
    stored = StoredJournal()
    await execute(stored, lambda run: run.call(Do(number=1), id="one"))

    async def body(run: Run) -> str:
        calls = [run.call(Do(number=number), id=name) for number, name in ((2, "one"), (3, "two"))]
        try:
            await asyncio.gather(*calls, return_exceptions=True)
        except PoiseError:
            return "a lower rung"
        return "done"

    with pytest.raises(NonDeterminismError, match="step one"):
        await execute(stored, body)


async def test_an_interrupted_sleep_continues_for_the_rest() -> None:
    stored = StoredJournal()
    run, _ = run_with(stored)
    task = asyncio.ensure_future(run.execute(run.sleep(20)))
    await yield_to_loop()
    task.cancel()
    await wait_until_done(task)
    ((step, written),) = stored.entries.items()
    assert step.startswith("wake-")
    stored.entries[step] = replace(
        written, body=to_json(from_json(written.body) - 20)
    )  # as if the run restarted 20 s later
    await execute(stored, lambda run: run.sleep(20))
    assert [entry.outcome for entry in stored.entries.values()] == ["value", "value"]


async def test_a_function_created_for_one_step_is_released() -> None:
    import gc  # noqa: PLC0415
    import weakref  # noqa: PLC0415

    references: list[weakref.ref[Any]] = []

    async def body(run: Run) -> int:
        async def once() -> int:
            return 1

        references.append(weakref.ref(once))
        return await run.step("once", once)

    assert await execute(StoredJournal(), body) == 1
    gc.collect()
    assert references[0]() is None
