"""A backend's limiter are given out in order, and none is lost."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from poise.contracts.topics import Lane
from poise.resilience.concurrency_limiter import ConcurrencyLimiter


async def test_no_more_than_the_places_are_taken_and_the_rest_wait_in_order() -> None:
    limiter = ConcurrencyLimiter(2)
    served = asyncio.Queue[int]()
    let_go = asyncio.Event()

    async def work(number: int) -> None:
        async with limiter.slot() as waited:
            assert waited >= 0
            served.put_nowait(number)
            await let_go.wait()

    async with asyncio.TaskGroup() as group:
        for number in range(5):
            group.create_task(work(number))
        assert [await served.get() for _ in range(2)] == [0, 1]
        assert (limiter.in_use, limiter.waiting) == (2, 3)
        let_go.set()
    assert [served.get_nowait() for _ in range(3)] == [2, 3, 4]
    assert (limiter.in_use, limiter.waiting) == (0, 0)


async def test_it_is_known_who_waits_for_one() -> None:
    limiter, waits = ConcurrencyLimiter(1), asyncio.Event()

    @asynccontextmanager
    async def waiting() -> AsyncIterator[None]:
        waits.set()
        yield

    async with limiter.slot(while_waiting=waiting):
        assert not waits.is_set()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0), limiter.slot(while_waiting=waiting):
                raise AssertionError
        assert waits.is_set()


async def test_one_who_gives_up_leaves_no_trace() -> None:
    limiter = ConcurrencyLimiter(1)
    async with limiter.slot():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0), limiter.slot():
                raise AssertionError
        assert (limiter.in_use, limiter.waiting) == (1, 0)
    async with asyncio.timeout(1), limiter.slot():
        assert limiter.in_use == 1


async def test_bulk_holds_its_share_at_most_and_gets_its_turn() -> None:
    limiter = ConcurrencyLimiter(4, batch_share=0.25)
    order: list[str] = []
    let_go = asyncio.Semaphore(0)

    async def work(lane: Lane) -> None:
        async with limiter.slot(lane):
            order.append(lane)
            await let_go.acquire()

    async with asyncio.TaskGroup() as group:
        for _ in range(8):
            group.create_task(work("batch"))
        await asyncio.sleep(0)
        assert order == ["batch"]
        for _ in range(12):
            group.create_task(work("interactive"))
        for _ in range(3):
            await asyncio.sleep(0)
        assert order == ["batch", *["interactive"] * 3]
        for _ in range(20):
            let_go.release()
    assert sorted(order) == ["batch"] * 8 + ["interactive"] * 12
    while_both_wait = order[: len(order) - order[::-1].index("interactive")]
    assert 2 <= while_both_wait.count("batch") <= 5
    assert (limiter.in_use, limiter.waiting) == (0, 0)


async def test_a_place_that_was_given_to_one_who_gave_up_in_that_moment_is_given_on() -> None:
    limiter = ConcurrencyLimiter(1)
    holding = limiter.slot()
    await holding.__aenter__()

    async def take() -> None:
        async with limiter.slot():
            pass

    second, third = asyncio.create_task(take()), asyncio.create_task(take())
    await asyncio.sleep(0)
    await holding.__aexit__(None, None, None)  # given to the second, which has not run yet
    second.cancel()
    async with asyncio.timeout(1):
        await third
    assert second.cancelled()
    assert (limiter.in_use, limiter.waiting) == (0, 0)


async def test_many_whose_time_is_up_in_one_moment_leave_no_trace() -> None:
    limiter = ConcurrencyLimiter(2)

    async def hold() -> None:
        async with limiter.slot():
            await asyncio.Event().wait()

    tasks = [asyncio.create_task(hold()) for _ in range(6)]
    await asyncio.sleep(0)
    assert (limiter.in_use, limiter.waiting) == (2, 4)
    for task in tasks:
        task.cancel()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(end) for end in ended} == {asyncio.CancelledError}
    async with asyncio.timeout(1), limiter.slot(), limiter.slot():
        assert (limiter.in_use, limiter.waiting) == (2, 0)
