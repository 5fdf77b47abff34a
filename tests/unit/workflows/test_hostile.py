"""Workflows that do what a run does not expect: none hangs, and what it sees is the same each time."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from memory_journal import Do, MemoryJournal, RandomCallContext, StoredJournal, run_with
from pydantic_core import from_json, to_json

from poise.errors import NonDeterminismError, PoiseError
from poise.redis.journal import JournalEntry
from poise.workflows.run import Run

Body = Callable[[Run], Awaitable[Any]]
TURNS = 5_000


async def ends(doing: "asyncio.Future[Any]") -> None:
    """Wait for so many turns of the event loop that only what waits for something is not done after them."""
    for _ in range(TURNS):
        if doing.done():
            return
        await asyncio.sleep(0)
    pytest.fail("it hangs")


async def turns(number: int = 200) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


async def begin(stored: StoredJournal, body: Body, seed: int = 0) -> Any:
    run, _ = run_with(stored, seed)
    doing = asyncio.ensure_future(run.execute(_coroutine(body, run)))
    await ends(doing)
    return doing.result()


async def _coroutine(body: Body, run: Run) -> Any:
    return await body(run)


async def ever() -> int:
    await asyncio.Event().wait()
    return 0


class SlowToGiveUp(MemoryJournal):
    """It is kept later and later that a step was given up, the first one last."""

    async def write(self, step: str, entry: JournalEntry) -> bool:
        kept = await super().write(step, entry)
        await turns({"first": 60, "second": 30}.get(step, 0))
        return kept


async def test_two_given_up_at_once_go_on_in_the_same_order_each_time() -> None:
    def body(seen: list[str]) -> Body:
        async def lane(run: Run, name: str) -> None:
            try:
                await run.step(name, ever, id=name)
            finally:
                seen.append(name)

        async def work(run: Run) -> None:
            lanes = [asyncio.ensure_future(lane(run, name)) for name in ("first", "second", "third")]
            await run.call(Do(number=1))
            for one in lanes:
                one.cancel()
            await asyncio.wait(lanes)

        return work

    stored, seen, again = StoredJournal(), list[str](), list[str]()
    chance = random.Random(0)
    run = Run(RandomCallContext(chance), SlowToGiveUp(stored, chance))
    await run.execute(_coroutine(body(seen), run))
    await begin(stored, body(again))
    assert seen == again == ["first", "second", "third"]


async def test_two_steps_in_another_order_are_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("poise.workflows.step_executor.STALL_TIMEOUT", 0.05)

    def body(*numbers: int) -> Body:
        async def work(run: Run) -> None:
            for number in numbers:
                await run.call(Do(number=number), id=f"step-{number}")

        return work

    stored = StoredJournal()
    await begin(stored, body(1, 2))
    run, _ = run_with(stored)
    with pytest.raises(NonDeterminismError, match=r"step step-1 .* comes next .* step step-2"):
        await run.execute(_coroutine(body(2, 1), run))


async def _grouped(run: Run, *, asks: bool) -> None:
    """A group of which one task fails while another one does a step; a third one does one too, if it is asked for."""

    async def fail() -> None:
        await run.call(Do(number=1), id="one")
        raise ZeroDivisionError

    async def last() -> None:
        try:
            await run.step("ever", ever, id="ever")
        finally:
            await run.now()

    async with asyncio.TaskGroup() as group:
        group.create_task(fail())
        if asks:
            group.create_task(_coroutine(lambda run: run.call(Do(number=2), id="two"), run))
        group.create_task(last())


async def grouped_history() -> StoredJournal:
    """One in which a step is given up after another one was done that the workflow does not ask for any more."""
    stored = StoredJournal()
    with pytest.raises(ExceptionGroup):
        await begin(stored, lambda run: _grouped(run, asks=True))
    one, two, given = (stored.entries[step] for step in ("one", "two", "ever"))
    assert given.outcome == "given-up"
    stored.entries["one"] = JournalEntry(1, "value", one.description, one.digest, 1.0, b'{"number": 1}')
    stored.entries["two"] = JournalEntry(2, "value", two.description, two.digest, 1.0, b'{"number": 2}')
    stored.entries["ever"] = JournalEntry(3, "given-up", given.description, given.digest, 1.0)
    return stored


async def test_a_run_that_is_interrupted_ends_though_a_step_of_it_waits_to_be_given_up() -> None:
    run, _ = run_with(await grouped_history())
    doing = asyncio.ensure_future(run.execute(_grouped(run, asks=False)))
    await turns()
    assert not doing.done()
    doing.cancel()
    await ends(doing)
    with pytest.raises(ExceptionGroup, match="TaskGroup"):  # the group's; it is no difference not to ask for more
        await doing


async def test_a_difference_is_seen_where_all_that_is_left_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("poise.workflows.step_executor.STALL_TIMEOUT", 0.05)
    run, _ = run_with(await grouped_history())
    with pytest.raises(NonDeterminismError, match=r"step two .* comes next"):
        await run.execute(_grouped(run, asks=False))


async def test_a_reply_that_cannot_be_kept_holds_nobody_up() -> None:
    class Broken(RandomCallContext):
        async def call(self, request: Any, **how: Any) -> Any:
            return await super().call(request, **how) if request.number else object()

    chance = random.Random(0)
    run = Run(Broken(chance), MemoryJournal(StoredJournal(), chance))

    async def body() -> Any:
        return await asyncio.gather(run.call(Do(number=0)), run.call(Do(number=1)), return_exceptions=True)

    doing = asyncio.ensure_future(run.execute(body()))
    await ends(doing)
    bug, done = doing.result()
    assert (type(bug), done.number) == (AttributeError, 1)


class Stop(BaseException):
    """As `KeyboardInterrupt`, which an event loop does not survive."""


async def test_what_is_no_exception_ends_the_run_and_nothing_is_kept_of_its_step() -> None:
    async def stop() -> int:
        raise Stop

    stored = StoredJournal()

    async def body(run: Run) -> Any:
        await run.call(Do(number=1), id="one")
        return await asyncio.gather(run.step("ever", ever), run.step("stop", stop))

    with pytest.raises(Stop):
        await begin(stored, body)
    assert list(stored.entries) == ["one"]


async def test_who_catches_its_cancellation_does_no_more_steps() -> None:
    stored = StoredJournal()

    async def body(run: Run) -> int:
        try:
            await run.step("ever", ever)
        except asyncio.CancelledError:
            return (await run.call(Do(number=1))).number
        return 0

    run, context = run_with(stored)
    doing = asyncio.ensure_future(run.execute(_coroutine(body, run)))
    await turns()
    doing.cancel()
    await ends(doing)
    assert doing.cancelled()
    assert (context.called, stored.entries) == ([], {})


async def test_a_workflow_may_leave_tasks_behind_that_are_cancelled_later() -> None:
    left: list[asyncio.Task[Any]] = []

    async def body(run: Run) -> int:
        left.append(asyncio.ensure_future(run.step("ever", ever)))
        left.append(asyncio.ensure_future(asyncio.shield(run.call(Do(number=2)))))
        return (await run.call(Do(number=1))).number

    stored = StoredJournal()
    for seed in range(5):
        assert await begin(stored, body, seed) == 1
        for task in left:
            task.cancel()
        await ends(asyncio.gather(*left, return_exceptions=True))


async def test_a_difference_inside_gather_reaches_whoever_runs_it() -> None:
    stored = StoredJournal()
    await begin(stored, lambda run: run.call(Do(number=1), id="one"))

    async def body(run: Run) -> str:
        calls = [run.call(Do(number=number), id=name) for number, name in ((2, "one"), (3, "two"))]
        try:
            await asyncio.gather(*calls, return_exceptions=True)
        except PoiseError:
            return "a lower rung"
        return "done"

    with pytest.raises(NonDeterminismError, match="step one"):
        await begin(stored, body)


async def test_a_sleep_that_was_interrupted_goes_on_for_the_rest_alone() -> None:
    stored = StoredJournal()
    run, _ = run_with(stored)
    doing = asyncio.ensure_future(run.execute(run.sleep(20)))
    await turns()
    doing.cancel()
    await ends(doing)
    ((step, kept),) = stored.entries.items()
    assert step.startswith("wake-")
    stored.entries[step] = replace(kept, body=to_json(from_json(kept.body) - 20))  # as if it were begun 20 s later
    await begin(stored, lambda run: run.sleep(20))
    assert [entry.outcome for entry in stored.entries.values()] == ["value", "value"]


async def test_a_function_made_for_one_step_is_not_kept() -> None:
    import gc  # noqa: PLC0415
    import weakref  # noqa: PLC0415

    made: list[weakref.ref[Any]] = []

    async def body(run: Run) -> int:
        async def once() -> int:
            return 1

        made.append(weakref.ref(once))
        return await run.step("once", once)

    assert await begin(StoredJournal(), body) == 1
    gc.collect()
    assert made[0]() is None
