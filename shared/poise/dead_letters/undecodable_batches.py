"""Batches that cannot be decoded: the dead letters of those that readers of whole logs come across.

Where a group reads, such a batch is a dead letter before its offset is committed, like all that cannot be handled.
A log is read by many processes, again after each start, and commits nothing: whoever comes across such a batch looks
whether it is kept already, and keeps it else.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

from poise.contracts.topics import dead_letter_tier, dead_letter_topic_name
from poise.dead_letters import model
from poise.dead_letters.model import POSITION
from poise.errors import PoiseError, UnavailableError
from poise.kafka.record import Record, SendRecord
from poise.kafka.undecodable import log_undecodable, undecodable_error
from poise.telemetry import count, semconv

log = logging.getLogger(__name__)

MAX_REMEMBERED: Final = 1_000
MAX_CONCURRENT: Final = 20
"""Batches that are on their way to a dead-letter topic; beyond it one is only said in the log."""
RETRY_INTERVAL: Final = 1.0
LOOKUP_TIMEOUT: Final = 10.0
FLUSH_TIMEOUT: Final = 2.0
"""Seconds that a process which leaves gives what is on its way."""


class ReadableLog(Protocol):
    """A topic that is read to its end."""

    def read_to_end(self) -> AsyncIterator[list[Record]]:
        """Batches of records."""


class UndecodableBatchRecorder:
    """Keeps the batches that the readers of one process come across, each once.

    Args:
        send: Sends a record and waits for the broker.
        read: Reads a topic, by its name.
        worker: What this process is called.
    """

    def __init__(
        self, send: SendRecord, read: Callable[[str], AbstractAsyncContextManager[ReadableLog]], worker: str
    ) -> None:
        self._send = send
        self._read = read
        self._worker = worker
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._keeping: set[asyncio.Task[None]] = set()

    def keep(self, record: Record) -> None:
        """Keep a batch as a dead letter, in a while; returns at once. The same one again is passed over."""
        position = str(record.position)
        if position in self._seen:
            return
        self._seen[position] = None
        if len(self._seen) > MAX_REMEMBERED:
            self._seen.popitem(last=False)
        tier = dead_letter_tier(record.topic)
        count(semconv.RECORDS_SKIPPED, 1, {semconv.MESSAGING_DESTINATION: record.topic})
        log_undecodable(record)
        if record.topic == dead_letter_topic_name(tier):
            return  # it is where it would be kept
        if len(self._keeping) >= MAX_CONCURRENT:
            log.error("%s is not kept as a dead letter: there are too many such batches at once", position)
            return
        task = asyncio.create_task(self._keep(tier, record))
        self._keeping.add(task)
        task.add_done_callback(self._keeping.discard)

    async def _keep(self, tier: str, record: Record) -> None:
        while True:
            try:
                if not await self._is_kept(dead_letter_topic_name(tier), str(record.position)):
                    error = undecodable_error(record)
                    await model.write(self._send, tier, record, error, attempt=1, worker=self._worker)
                    metered = {
                        semconv.TIER: tier,
                        semconv.TOPIC: record.topic,
                        semconv.ERROR_TYPE: type(error).__name__,
                    }
                    count(semconv.DEAD_LETTERS, 1, metered)
            except UnavailableError:
                await asyncio.sleep(RETRY_INTERVAL)
            except PoiseError as error:
                log.error("%s could not be kept as a dead letter: %s", record.position, error)  # noqa: TRY400 - expected
                return
            else:
                return

    async def _is_kept(self, topic: str, position: str) -> bool:
        """Whether a dead-letter topic has a letter of a position; one that is too long to look through has not."""
        try:
            async with asyncio.timeout(LOOKUP_TIMEOUT), self._read(topic) as letters:
                async for batch in letters.read_to_end():
                    if any(letter.header(POSITION) == position for letter in batch):
                        return True
        except TimeoutError:
            log.warning("%s could not be looked through in %.0f s", topic, LOOKUP_TIMEOUT)
        return False

    async def flush(self) -> None:
        """Wait until what is on its way is kept, for a moment at most."""
        if self._keeping:
            await asyncio.wait(self._keeping, timeout=FLUSH_TIMEOUT)
        for task in self._keeping:
            task.cancel()
