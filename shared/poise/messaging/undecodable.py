"""Batches that cannot be decoded: the dead letters of those that readers of whole logs come across.

Where a group reads, such a batch is a dead letter before its offset is committed, like all that cannot be handled.
A log is read by many processes, again after each start, and commits nothing: whoever comes across such a batch looks
whether it is kept already, and keeps it else.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final

from poise.contracts.topics import dead_topic, tier_of_dead_letters
from poise.errors import PoiseError, UnavailableError, UndecodableBatchError
from poise.messaging import dead_letters
from poise.messaging.dead_letters import POSITION, Send
from poise.messaging.record import Record
from poise.telemetry import count, table

log = logging.getLogger(__name__)

REMEMBERED: Final = 1_000
AT_ONCE: Final = 20
"""Batches that are on their way to a dead-letter topic; beyond it one is only said in the log."""
AGAIN_AFTER: Final = 1.0
FLUSHED_WITHIN: Final = 2.0
"""Seconds that a process which leaves gives what is on its way."""

IsKept = Callable[[str, str], Awaitable[bool]]
"""Whether a dead-letter topic, by its name, has a letter of a position."""


def undecodable(record: Record) -> UndecodableBatchError:
    """The error that a batch which cannot be decoded ends with."""
    found = record.undecodable
    if found is None:
        raise ValueError(f"{record.position} is a record")
    offsets = f"records {found.first_offset} to {record.offset} of {record.topic}/{record.partition}"
    return UndecodableBatchError(f"{offsets} cannot be decoded: {found.reason}")


class UndecodableBatches:
    """Keeps the batches that the readers of one process come across, each once.

    Args:
        send: Sends a record and waits for the broker.
        is_kept: Looks into a dead-letter topic.
        worker: What this process is called.
    """

    def __init__(self, send: Send, is_kept: IsKept, worker: str) -> None:
        self._send = send
        self._is_kept = is_kept
        self._worker = worker
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._keeping: set[asyncio.Task[None]] = set()

    def keep(self, record: Record) -> None:
        """Keep a batch as a dead letter, in a while; returns at once. The same one again is passed over."""
        position = str(record.position)
        if position in self._seen:
            return
        self._seen[position] = None
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        tier = tier_of_dead_letters(record.topic)
        log.warning("%s; passed over", undecodable(record))
        if record.topic == dead_topic(tier):
            return  # it is where it would be kept
        if len(self._keeping) >= AT_ONCE:
            log.error("%s is not kept as a dead letter: there are too many such batches at once", position)
            return
        task = asyncio.create_task(self._keep(tier, record))
        self._keeping.add(task)
        task.add_done_callback(self._keeping.discard)

    async def _keep(self, tier: str, record: Record) -> None:
        while True:
            try:
                if not await self._is_kept(dead_topic(tier), str(record.position)):
                    error = undecodable(record)
                    await dead_letters.write(self._send, tier, record, error, attempt=1, worker=self._worker)
                    metered = {table.TIER: tier, table.TOPIC: record.topic, table.ERROR_TYPE: type(error).__name__}
                    count(table.DEAD_LETTERS, 1, metered)
            except (UnavailableError, TimeoutError):
                await asyncio.sleep(AGAIN_AFTER)
            except PoiseError as error:
                log.error("%s could not be kept as a dead letter: %s", record.position, error)  # noqa: TRY400 - expected
                return
            else:
                return

    async def flush(self) -> None:
        """Wait until what is on its way is kept, for a moment at most."""
        if self._keeping:
            await asyncio.wait(self._keeping, timeout=FLUSHED_WITHIN)
        for task in self._keeping:
            task.cancel()


def is_letter_of(record: Record, position: str) -> bool:
    """Whether a record of a dead-letter topic keeps what stood at a position."""
    return record.header(POSITION) == position
