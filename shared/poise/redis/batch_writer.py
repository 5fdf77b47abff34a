"""BatchWriter: writes the journal entries of all runs of a process, many in one round trip.

A run waits until its step is journaled, and most of the cost of a step is this round trip. So the entries added in the
same event loop iteration, or during a round trip, share the next one. Each journal's entries are a separate call: an
error of one, or a lost ownership, does not affect the others.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol, cast

from poise.redis.script import Script, ScriptCall

log = logging.getLogger(__name__)

MAX_BATCH_BYTES: Final = 256 * 1024
"""Bytes above which a batch takes no more journals, so that one large journal does not delay many others."""
MAX_IN_FLIGHT: Final = 1
"""Round trips in flight at once."""

WRITE: Final = Script(
    """
if redis.call('HGET', KEYS[1], '') ~= ARGV[1] then return 'lost' end
for i = 2, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
return ''
""",
    empty_result_means_written=True,
)


class PendingWrites(Protocol):
    """A journal with entries to write. While a write is in flight, no other write of the same journal is started."""

    def take_entries(self) -> ScriptCall:
        """Return all waiting entries as one call."""

    def complete_write(self, result: object) -> bool:
        """Process the script's result, None if the call failed; return whether more entries are waiting."""


class BatchWriter:
    """Writes journals in the order in which they were added.

    Args:
        send: Runs a script once for each of several calls and returns the results, None for a failed call.
    """

    def __init__(self, send: Callable[[Script, Sequence[ScriptCall]], Awaitable[Sequence[object]]]) -> None:
        self._send = send
        self._waiting: deque[PendingWrites] = deque()
        self._in_flight: set[asyncio.Task[None]] = set()

    def add(self, pending: PendingWrites) -> None:
        """Write a journal soon, and pass it the result. No write of this journal may be in flight."""
        self._waiting.append(pending)
        if len(self._in_flight) < MAX_IN_FLIGHT:
            self._in_flight.add(asyncio.create_task(self._write()))

    async def idle(self) -> None:
        """Wait until nothing is left to write."""
        while self._in_flight:
            await asyncio.wait(self._in_flight)

    async def _write(self) -> None:
        try:
            while self._waiting:
                await self._write_batch()
        finally:  # in the iteration in which the queue was empty: a later `add` starts a new task
            self._in_flight.discard(cast("asyncio.Task[None]", asyncio.current_task()))

    async def _write_batch(self) -> None:
        batch, calls = self._next_batch()
        results: Sequence[object] = [None] * len(batch)
        try:
            results = await self._send(WRITE, calls)
        except Exception:  # a bug: the waiting runs must still be answered
            log.exception("journal entries of %d runs could not be written", len(batch))
        finally:
            for pending, result in zip(batch, results, strict=True):
                if pending.complete_write(result):
                    self._waiting.append(pending)

    def _next_batch(self) -> tuple[list[PendingWrites], list[ScriptCall]]:
        batch: list[PendingWrites] = []
        calls: list[ScriptCall] = []
        size = 0
        while self._waiting and size < MAX_BATCH_BYTES:
            pending = self._waiting.popleft()
            key, arguments = pending.take_entries()
            batch.append(pending)
            calls.append((key, arguments))
            size += sum(len(part) for part in arguments if isinstance(part, bytes))
        return batch, calls
