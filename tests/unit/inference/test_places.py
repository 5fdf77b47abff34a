"""A backend's places are given out in order, and none is lost."""

import asyncio

import pytest

from services.inference.places import Places


async def test_no_more_than_the_places_are_taken_and_the_rest_wait_in_order() -> None:
    places = Places(2)
    served = asyncio.Queue[int]()
    let_go = asyncio.Event()

    async def work(number: int) -> None:
        async with places.one() as waited:
            assert waited >= 0
            served.put_nowait(number)
            await let_go.wait()

    async with asyncio.TaskGroup() as group:
        for number in range(5):
            group.create_task(work(number))
        assert [await served.get() for _ in range(2)] == [0, 1]
        assert (places.taken, places.waiting) == (2, 3)
        let_go.set()
    assert [served.get_nowait() for _ in range(3)] == [2, 3, 4]
    assert (places.taken, places.waiting) == (0, 0)


async def test_one_who_gives_up_leaves_no_trace() -> None:
    places = Places(1)
    async with places.one():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0), places.one():
                raise AssertionError
        assert (places.taken, places.waiting) == (1, 0)
    async with asyncio.timeout(1), places.one():
        assert places.taken == 1
