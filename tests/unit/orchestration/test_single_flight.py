"""Asks that wait for a concurrent identical ask."""

import asyncio

from poise.kafka.handling_slots import HandlingSlots
from poise.liveness import Liveness
from poise.redis.answer_store import CachedAnswer
from poise.redis.client import RedisClient
from poise.redis.lease import LeaseHolder
from poise.redis.lease_store import LeaseStore
from poise_services.orchestration.single_flight import Flight, SingleFlight


async def test_an_ask_that_waits_for_another_holds_no_handling_slot() -> None:
    async with RedisClient(None) as cache:
        flights = SingleFlight(LeaseHolder(LeaseStore(cache), 10, Liveness()))
        slots = HandlingSlots(2, max_parked=8, max_parked_bytes=8, on_change=lambda: None)

        async def accepts(_kept: CachedAnswer, _elsewhere: bool) -> bool:
            return True

        async def acquire() -> CachedAnswer | Flight | None:
            slot = slots.acquire(1)
            slot.activate()
            try:
                return await flights.acquire("the same", accepts, 60)
            finally:
                slot.release()

        leader = await asyncio.create_task(acquire())
        assert isinstance(leader, Flight)
        others = [asyncio.create_task(acquire()) for _ in range(5)]
        for _ in range(10):
            await asyncio.sleep(0)
        assert slots.parked_count == len(others)
        await leader.complete(None)  # without a result, so another ask leads next
        [done], waiting = await asyncio.wait(others, return_when=asyncio.FIRST_COMPLETED)
        flight = done.result()
        assert isinstance(flight, Flight)
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        await flight.complete(None)
