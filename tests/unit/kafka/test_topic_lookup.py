"""Looking up topics by name: one request for many, asked anew each time, and none for what cannot be a name."""

import asyncio
from collections.abc import Collection, Mapping

import pytest

from poise.errors import UnavailableError
from poise.kafka.topic_lookup import TopicLookup


class Broker:
    """Answers each request when it is let go."""

    def __init__(self) -> None:
        self.asked: list[set[str]] = []
        self.topics = {"mine": 3}
        self.error: Exception | None = None
        self.go_on = asyncio.Event()

    async def describe(self, names: Collection[str]) -> Mapping[str, int]:
        self.asked.append(set(names))
        await self.go_on.wait()
        if self.error is not None:
            raise self.error
        return {name: self.topics[name] for name in names if name in self.topics}


async def begun(lookup: TopicLookup, *names: str) -> list[asyncio.Task[int | None]]:
    tasks = [asyncio.create_task(lookup.get(name)) for name in names]
    for _ in range(5):
        await asyncio.sleep(0)
    return tasks


async def test_all_names_that_are_wanted_meanwhile_go_into_the_next_request() -> None:
    broker = Broker()
    lookup = TopicLookup(broker.describe)
    first = await begun(lookup, "mine")
    rest = await begun(lookup, *(f"none-{n}" for n in range(1_000)), "mine")
    broker.go_on.set()
    assert await asyncio.gather(*first, *rest) == [3, *[None] * 1_000, 3]
    assert [len(names) for names in broker.asked] == [1, 1_001]


async def test_a_topic_that_is_made_between_two_questions_is_found() -> None:
    broker = Broker()
    broker.go_on.set()
    lookup = TopicLookup(broker.describe)
    assert await lookup.get("new") is None
    broker.topics["new"] = 1
    assert await lookup.get("new") == 1


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a b", "\0", "\u00fc", "x" * 250, "x\n"])
async def test_what_kafka_allows_as_no_name_is_not_asked_for(name: str) -> None:
    broker = Broker()
    assert await TopicLookup(broker.describe).get(name) is None
    assert broker.asked == []


async def test_everybody_is_told_that_the_broker_does_not_answer_and_the_next_ask_again() -> None:
    broker = Broker()
    broker.error = UnavailableError("away")
    lookup = TopicLookup(broker.describe)
    waiting = await begun(lookup, "mine", "other")
    broker.go_on.set()
    assert all(isinstance(told, UnavailableError) for told in await asyncio.gather(*waiting, return_exceptions=True))
    broker.error = None
    assert await lookup.get("mine") == 3


async def test_one_who_gives_up_leaves_the_others_their_answer() -> None:
    broker = Broker()
    one, other = await begun(TopicLookup(broker.describe), "mine", "mine")
    one.cancel()
    broker.go_on.set()
    assert await other == 3
