"""ConcurrencyLimiter: slots are granted in order, and none is lost."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from poise.contracts.topics import Lane
from poise.resilience.concurrency_limiter import ConcurrencyLimiter


async def test_requests_beyond_the_limit_wait_in_order() -> None:
    limiter = ConcurrencyLimiter(2)
    served = asyncio.Queue[int]()
    release = asyncio.Event()

    async def work(number: int) -> None:
        async with limiter.slot() as waited:
            assert waited >= 0
            served.put_nowait(number)
            await release.wait()

    async with asyncio.TaskGroup() as group:
        for number in range(5):
            group.create_task(work(number))
        assert [await served.get() for _ in range(2)] == [0, 1]
        assert (limiter.in_use, limiter.waiting) == (2, 3)
        release.set()
    assert [served.get_nowait() for _ in range(3)] == [2, 3, 4]
    assert (limiter.in_use, limiter.waiting) == (0, 0)


async def test_while_waiting_is_entered_only_by_a_waiting_request() -> None:
    limiter, entered = ConcurrencyLimiter(1), asyncio.Event()

    @asynccontextmanager
    async def waiting() -> AsyncIterator[None]:
        entered.set()
        yield

    async with limiter.slot(while_waiting=waiting):
        assert not entered.is_set()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0), limiter.slot(while_waiting=waiting):
                raise AssertionError
        assert entered.is_set()


async def test_a_cancelled_request_leaves_the_queue() -> None:
    limiter = ConcurrencyLimiter(1)
    async with limiter.slot():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0), limiter.slot():
                raise AssertionError
        assert (limiter.in_use, limiter.waiting) == (1, 0)
    async with asyncio.timeout(1), limiter.slot():
        assert limiter.in_use == 1


async def test_the_batch_lane_is_limited_to_its_share_and_not_starved() -> None:
    limiter = ConcurrencyLimiter(4, batch_share=0.25)
    order: list[str] = []
    release = asyncio.Semaphore(0)

    async def work(lane: Lane) -> None:
        async with limiter.slot(lane):
            order.append(lane)
            await release.acquire()

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
            release.release()
    assert sorted(order) == ["batch"] * 8 + ["interactive"] * 12
    while_both_wait = order[: len(order) - order[::-1].index("interactive")]
    assert 2 <= while_both_wait.count("batch") <= 5
    assert (limiter.in_use, limiter.waiting) == (0, 0)


async def test_a_slot_granted_to_a_request_cancelled_at_that_moment_is_passed_on() -> None:
    limiter = ConcurrencyLimiter(1)
    held_slot = limiter.slot()
    await held_slot.__aenter__()

    async def take() -> None:
        async with limiter.slot():
            pass

    second, third = asyncio.create_task(take()), asyncio.create_task(take())
    await asyncio.sleep(0)
    await held_slot.__aexit__(None, None, None)  # granted to the second, which has not run yet
    second.cancel()
    async with asyncio.timeout(1):
        await third
    assert second.cancelled()
    assert (limiter.in_use, limiter.waiting) == (0, 0)


async def test_requests_cancelled_at_one_moment_leave_the_queue() -> None:
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
