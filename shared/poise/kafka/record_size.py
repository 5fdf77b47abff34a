"""Size limits: how large a record is on the wire, and how large its topic accepts, both known before it is sent."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Final

from aiokafka.record.default_records import DefaultRecordBatchBuilder

from poise.contracts.custom_topics import find_topic
from poise.contracts.topics import CATALOGUE, MAX_RECORD_BYTES, MIB
from poise.errors import UnavailableError
from poise.kafka.record import Headers
from poise.kafka.topic_lookup import TopicLookup

UNKNOWN_LIMIT: Final = MIB
"""Bytes: the assumed limit of a foreign topic whose configuration may not be read; Kafka's default, rounded down."""
REFRESH_INTERVAL: Final = 60.0
"""Seconds after which the limits are fetched again: an operator may have changed one."""
MAX_TOPICS: Final = 1_000
"""Topics whose limits are cached."""

FetchLimits = Callable[[Collection[str]], Awaitable[Mapping[str, int]]]
"""Fetches the limits of those of the topics whose configuration can be read."""


def size_of(key: bytes | None, value: bytes | None, headers: Headers) -> int:
    """Return an upper bound, some 20 bytes high, for the size of a batch with this one record, headers included.

    Kafka compares that size with `max.message.bytes`.
    """
    return DefaultRecordBatchBuilder.estimate_size_in_bytes(key, value, headers)  # type: ignore[arg-type]  # accepts null values


def default_limit(topic: str) -> int:
    """Return a topic's limit without asking the broker: from the catalog, or else Kafka's default."""
    known = find_topic(topic)
    return UNKNOWN_LIMIT if known is None else known.max_bytes


class TopicLimits:
    """The size limit of each topic's records, as the broker reports it, cached.

    If the broker does not report it (it does not answer, or this process may not read configurations), `default_limit`
    applies, or less if a smaller record was rejected since.

    Args:
        fetch: Fetches limits from the broker.
    """

    def __init__(self, fetch: FetchLimits) -> None:
        self._fetch = fetch
        self._lookup = TopicLookup(fetch)
        self.known: dict[str, int] = {}
        """The limits of all topics that were asked about."""
        self._rejected: dict[str, int] = {}
        """The size of the smallest record that a topic rejected, while the broker does not report its limit."""
        self._read_at = -REFRESH_INTERVAL

    async def limit(self, topic: str) -> int:
        """Return a topic's limit in bytes."""
        if (known := self.known.get(topic)) is not None:
            return known
        try:
            found = await self._lookup.get(topic)
        except UnavailableError:
            return self._fallback(topic)
        return self._note(topic, found)

    async def load(self, topics: Collection[str] = CATALOGUE) -> None:
        """Fetch the limits of many topics at once."""
        self._read_at = asyncio.get_running_loop().time()
        try:
            found = await self._fetch(topics)
        except UnavailableError:
            return  # cached limits stay
        for topic in topics:
            self._note(topic, found.get(topic))

    async def refresh(self) -> None:
        """Fetch all cached limits again if they are older than `REFRESH_INTERVAL`."""
        if asyncio.get_running_loop().time() - self._read_at > REFRESH_INTERVAL:
            await self.load(list(self.known))

    async def note_rejected(self, topic: str, size: int, *, alone: bool) -> None:
        """Update the cached limit after the broker rejected a batch as too large.

        Args:
            topic: The topic.
            size: Size of a record in that batch.
            alone: Whether the batch had no other record.
        """
        if alone:
            self._rejected[topic] = min(size, self._rejected.get(topic, size))
        self.known.pop(topic, None)
        await self.limit(topic)

    def _fallback(self, topic: str) -> int:
        return min(default_limit(topic), self._rejected.get(topic, MAX_RECORD_BYTES + 1) - 1)

    def _note(self, topic: str, found: int | None) -> int:
        if found is not None:
            self._rejected.pop(topic, None)
        limit = self.known[topic] = self._fallback(topic) if found is None else min(found, MAX_RECORD_BYTES)
        if len(self.known) > MAX_TOPICS:  # some client names many foreign topics: they are fetched again one by one
            self.known = {name: most for name, most in self.known.items() if name in CATALOGUE}
        return limit
