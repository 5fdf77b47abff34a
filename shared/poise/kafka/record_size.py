"""Sizes: how many bytes a record takes on the wire, and how many its topic takes, both known before it is sent."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Final

from aiokafka.record.default_records import DefaultRecordBatchBuilder

from poise.contracts.custom_topics import topic_named
from poise.contracts.topics import CATALOGUE, LARGEST_RECORD, MIB
from poise.errors import UnavailableError
from poise.kafka.record import Headers
from poise.kafka.topic_lookup import TopicLookup

UNKNOWN_LIMIT: Final = MIB
"""Bytes that a topic of somebody else's is taken to take where its configuration may not be read: Kafka's default, less
a few."""
REFRESH_INTERVAL: Final = 60.0
"""Seconds after which the limits are read once more: an operator may have changed one."""
MAX_TOPICS: Final = 1_000
"""Topics whose limits are remembered."""

FetchLimits = Callable[[Collection[str]], Awaitable[Mapping[str, int]]]
"""The limits of those of the topics whose configuration can be read."""


def size_of(key: bytes | None, value: bytes | None, headers: Headers) -> int:
    """The bytes of a batch that has this record alone, headers and all; some twenty too many, and never too few.

    That is what Kafka compares with `max.message.bytes`.
    """
    return DefaultRecordBatchBuilder.estimate_size_in_bytes(key, value, headers)  # type: ignore[arg-type]  # null ones are taken too


def default_limit(topic: str) -> int:
    """What a topic takes as far as Poise knows without asking: by the table of topics, else Kafka's default."""
    known = topic_named(topic)
    return UNKNOWN_LIMIT if known is None else known.max_bytes


class TopicLimits:
    """The largest record that each topic takes, by the broker's own word, cached.

    Where the broker does not say (it does not answer, or this process may not read configurations), `default_limit`
    stands in, or less, where a record was refused since.

    Args:
        fetch: Asks the broker.
    """

    def __init__(self, fetch: FetchLimits) -> None:
        self._fetch = fetch
        self._lookup = TopicLookup(fetch)
        self.known: dict[str, int] = {}
        """What was found of each topic that was asked about."""
        self._rejected: dict[str, int] = {}
        """The smallest record that a topic refused, for as long as the broker does not say what it takes."""
        self._read_at = -REFRESH_INTERVAL

    async def limit(self, topic: str) -> int:
        """What a topic takes."""
        if (known := self.known.get(topic)) is not None:
            return known
        try:
            found = await self._lookup.get(topic)
        except UnavailableError:
            return self._fallback(topic)
        return self._note(topic, found)

    async def load(self, topics: Collection[str] = CATALOGUE) -> None:
        """Ask for many topics at once."""
        self._read_at = asyncio.get_running_loop().time()
        try:
            found = await self._fetch(topics)
        except UnavailableError:
            return  # what is known stays
        for topic in topics:
            self._note(topic, found.get(topic))

    async def refresh(self) -> None:
        """Ask about all that is known once more, where that is a while ago."""
        if asyncio.get_running_loop().time() - self._read_at > REFRESH_INTERVAL:
            await self.load(list(self.known))

    async def note_rejected(self, topic: str, size: int, *, alone: bool) -> None:
        """Told that the broker refused a batch as too large: what was known of the topic is not so any more.

        Args:
            topic: The topic.
            size: Of a record in that batch.
            alone: Whether it was the only one.
        """
        if alone:
            self._rejected[topic] = min(size, self._rejected.get(topic, size))
        self.known.pop(topic, None)
        await self.limit(topic)

    def _fallback(self, topic: str) -> int:
        return min(default_limit(topic), self._rejected.get(topic, LARGEST_RECORD + 1) - 1)

    def _note(self, topic: str, found: int | None) -> int:
        if found is not None:
            self._rejected.pop(topic, None)
        limit = self.known[topic] = self._fallback(topic) if found is None else min(found, LARGEST_RECORD)
        if len(self.known) > MAX_TOPICS:  # somebody names many of theirs: asked about again, one by one
            self.known = {name: most for name, most in self.known.items() if name in CATALOGUE}
        return limit
