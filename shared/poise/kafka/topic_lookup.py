"""Looking up topics by name, as many at once as are wanted: whoever names a topic may name one that is not there."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Final

_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,249}")


class TopicLookup:
    """Asks the broker about topics, in one request for all names that were wanted while the last one was under way.

    So an unknown name costs its sender's message one round trip, however many others name unknown topics too; were each
    asked about by itself, or no more often than so, a flood of invented names would hold up all other messages.

    Args:
        fetch: A number for each of the topics that the broker has one for: how many partitions it has, or how large
            a record may be.
    """

    def __init__(self, fetch: Callable[[Collection[str]], Awaitable[Mapping[str, int]]]) -> None:
        self._fetch = fetch
        self._names: set[str] = set()
        self._next_request: asyncio.Task[Mapping[str, int]] | None = None
        self._lock = asyncio.Lock()

    async def get(self, topic: str) -> int | None:
        """A topic's number, asked for after this was called; None = it does not exist, or has none.

        Raises:
            UnavailableError: The broker does not answer.
        """
        if not _NAME.fullmatch(topic) or topic in {".", ".."}:
            return None  # Kafka allows no such name
        self._names.add(topic)
        if self._next_request is None:
            self._next_request = asyncio.create_task(self._run())
        # Shielded: others may wait for the same request when this caller is cancelled.
        return (await asyncio.shield(self._next_request)).get(topic)

    async def _run(self) -> Mapping[str, int]:
        async with self._lock:
            wanted, self._names, self._next_request = self._names, set(), None
            return await self._fetch(wanted)
