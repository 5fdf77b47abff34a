"""Batched topic lookups: a message may name a topic that does not exist, in `reply_to` for example."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Final

_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,249}")


class TopicLookup:
    """Looks up topics at the broker; all names requested during one lookup share the next one.

    An unknown name therefore costs its message one round trip, however many others name unknown topics too. With one
    request for each name, or with rate-limited requests, a flood of invented names would block all other messages.

    Args:
        fetch: Returns a number for each of the topics that has one: its number of partitions, or its size limit.
    """

    def __init__(self, fetch: Callable[[Collection[str]], Awaitable[Mapping[str, int]]]) -> None:
        self._fetch = fetch
        self._names: set[str] = set()
        self._next_request: asyncio.Task[Mapping[str, int]] | None = None
        self._lock = asyncio.Lock()

    async def get(self, topic: str) -> int | None:
        """Return a topic's number, fetched after this call; None = the topic does not exist, or has none.

        Raises:
            UnavailableError: The broker does not answer.
        """
        if not _NAME.fullmatch(topic) or topic in {".", ".."}:
            return None  # Kafka allows no such name
        self._names.add(topic)
        if self._next_request is None:
            self._next_request = asyncio.create_task(self._run())
        # Shielded: other callers may wait for the same request when this one is cancelled.
        return (await asyncio.shield(self._next_request)).get(topic)

    async def _run(self) -> Mapping[str, int]:
        async with self._lock:
            names, self._names, self._next_request = self._names, set(), None
            return await self._fetch(names)
