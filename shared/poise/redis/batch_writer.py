"""BatchWriter: sends the journal entries of all runs of a process together, many in one round trip.

A run waits for its step to be kept. Of many runs each would send its own, and most of what a step costs would be that;
so those that come in the same turn of the event loop, or during a round trip, share the next one. Each history's part
is a call of its own: what one is told, an error or that it has another owner, says nothing of the others.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol, cast

from poise.redis.script import Script, ScriptCall

log = logging.getLogger(__name__)

MAX_BATCH_BYTES: Final = 256 * 1024
"""Bytes from which on a round trip takes no more histories: one with much to write shall not make many wait."""
MAX_IN_FLIGHT: Final = 1
"""Round trips under way at once."""

WRITE: Final = Script(
    """
if redis.call('HGET', KEYS[1], '') ~= ARGV[1] then return 'lost' end
for i = 2, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
return ''
""",
    writes=True,
)


class PendingWrites(Protocol):
    """A history that has something to be written; while that is under way, nothing else of it is taken."""

    def take(self) -> ScriptCall:
        """All of it."""

    def written(self, said: object) -> bool:
        """What the server said of what was taken, None if nothing; whether more has come to be written meanwhile."""


class BatchWriter:
    """Writes what is added, in the order of its coming.

    Args:
        send: Runs a script for each of several calls; None stands for one that failed.
    """

    def __init__(self, send: Callable[[Script, Sequence[ScriptCall]], Awaitable[Sequence[object]]]) -> None:
        self._send = send
        self._waiting: deque[PendingWrites] = deque()
        self._in_flight: set[asyncio.Task[None]] = set()

    def add(self, pending: PendingWrites) -> None:
        """Take from a history, which is not being written now, and tell it, soon."""
        self._waiting.append(pending)
        if len(self._in_flight) < MAX_IN_FLIGHT:
            self._in_flight.add(asyncio.create_task(self._write()))

    async def idle(self) -> None:
        """Wait until nothing is to be written."""
        while self._in_flight:
            await asyncio.wait(self._in_flight)

    async def _write(self) -> None:
        try:
            while self._waiting:
                await self._round()
        finally:  # in the same turn in which nothing waited: what is added from now on has a new lane
            self._in_flight.discard(cast("asyncio.Task[None]", asyncio.current_task()))

    async def _round(self) -> None:
        batch, calls = self._next()
        said: Sequence[object] = [None] * len(batch)
        try:
            said = await self._send(WRITE, calls)
        except Exception:  # a bug, for which no run may wait without end
            log.exception("what %d runs had for their histories could not be written", len(batch))
        finally:
            for pending, word in zip(batch, said, strict=True):
                if pending.written(word):
                    self._waiting.append(pending)

    def _next(self) -> tuple[list[PendingWrites], list[ScriptCall]]:
        batch: list[PendingWrites] = []
        calls: list[ScriptCall] = []
        size = 0
        while self._waiting and size < MAX_BATCH_BYTES:
            pending = self._waiting.popleft()
            key, arguments = pending.take()
            batch.append(pending)
            calls.append((key, arguments))
            size += sum(len(part) for part in arguments if isinstance(part, bytes))
        return batch, calls
