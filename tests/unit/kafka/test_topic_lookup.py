"""Topic lookups: one request for many names, sent again each time, and none for an invalid name."""

import asyncio
from collections.abc import Collection, Mapping

import pytest

from poise.errors import UnavailableError
from poise.kafka.topic_lookup import TopicLookup


class BlockingBroker:
    """A broker that answers each request when it is released."""

    def __init__(self) -> None:
        self.lookups: list[set[str]] = []
        self.topics = {"mine": 3}
        self.error: Exception | None = None
        self.release = asyncio.Event()

    async def describe(self, names: Collection[str]) -> Mapping[str, int]:
        self.lookups.append(set(names))
        await self.release.wait()
        if self.error is not None:
            raise self.error
        return {name: self.topics[name] for name in names if name in self.topics}


async def begun(lookup: TopicLookup, *names: str) -> list[asyncio.Task[int | None]]:
    tasks = [asyncio.create_task(lookup.get(name)) for name in names]
    for _ in range(5):
        await asyncio.sleep(0)
    return tasks


async def test_names_wanted_during_a_request_share_the_next_one() -> None:
    broker = BlockingBroker()
    lookup = TopicLookup(broker.describe)
    first = await begun(lookup, "mine")
    rest = await begun(lookup, *(f"none-{n}" for n in range(1_000)), "mine")
    broker.release.set()
    assert await asyncio.gather(*first, *rest) == [3, *[None] * 1_000, 3]
    assert [len(names) for names in broker.lookups] == [1, 1_001]


async def test_a_topic_created_between_two_requests_is_found() -> None:
    broker = BlockingBroker()
    broker.release.set()
    lookup = TopicLookup(broker.describe)
    assert await lookup.get("new") is None
    broker.topics["new"] = 1
    assert await lookup.get("new") == 1


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a b", "\0", "\u00fc", "x" * 250, "x\n"])
async def test_an_invalid_name_is_not_requested(name: str) -> None:
    broker = BlockingBroker()
    assert await TopicLookup(broker.describe).get(name) is None
    assert broker.lookups == []


async def test_a_failed_request_is_raised_to_all_its_callers_and_the_next_is_sent() -> None:
    broker = BlockingBroker()
    broker.error = UnavailableError("away")
    lookup = TopicLookup(broker.describe)
    waiting = await begun(lookup, "mine", "other")
    broker.release.set()
    assert all(isinstance(told, UnavailableError) for told in await asyncio.gather(*waiting, return_exceptions=True))
    broker.error = None
    assert await lookup.get("mine") == 3


async def test_a_cancelled_caller_does_not_cancel_the_request_of_others() -> None:
    broker = BlockingBroker()
    one, other = await begun(TopicLookup(broker.describe), "mine", "mine")
    one.cancel()
    broker.release.set()
    assert await other == 3
