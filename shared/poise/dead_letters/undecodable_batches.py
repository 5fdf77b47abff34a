"""Undecodable batches: dead letters for the batches that log readers cannot decode.

A consumer group dead-letters such a batch before it commits the offset, like any message that cannot be handled. A log
is read by many processes, again after each start, without commits: so a reader that finds such a batch first checks
whether it is a dead letter already.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

from poise.contracts.headers import DEAD_POSITION
from poise.contracts.topics import dead_letter_tier, dead_letter_topic_name
from poise.dead_letters.model import write_dead_letter
from poise.errors import PoiseError, UnavailableError
from poise.kafka.record import Record, SendRecord
from poise.kafka.undecodable import log_undecodable, undecodable_error
from poise.telemetry import count, semconv

log = logging.getLogger(__name__)

MAX_REMEMBERED: Final = 1_000
MAX_CONCURRENT: Final = 20
"""Batches that are being dead-lettered at once; beyond this a batch is only logged."""
RETRY_INTERVAL: Final = 1.0
LOOKUP_TIMEOUT: Final = 10.0
FLUSH_TIMEOUT: Final = 2.0
"""Seconds for a stopping process to write the last batches."""


class ReadableLog(Protocol):
    """A topic that can be read to its end."""

    def read_to_end(self) -> AsyncIterator[list[Record]]:
        """Yield batches of records."""


class UndecodableBatchRecorder:
    """Dead-letters the undecodable batches that the readers of one process find, each once.

    Args:
        send: Sends a record and waits for the broker's acknowledgement.
        read: Reads a topic, by its name.
        worker: The name of this process.
    """

    def __init__(
        self, send: SendRecord, read: Callable[[str], AbstractAsyncContextManager[ReadableLog]], worker: str
    ) -> None:
        self._send = send
        self._read = read
        self._worker = worker
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()

    def record(self, batch: Record) -> None:
        """Dead-letter a batch in the background; returns immediately. A known batch is skipped."""
        position = str(batch.position)
        if position in self._seen:
            return
        self._seen[position] = None
        if len(self._seen) > MAX_REMEMBERED:
            self._seen.popitem(last=False)
        tier = dead_letter_tier(batch.topic)
        count(semconv.RECORDS_SKIPPED, 1, {semconv.MESSAGING_DESTINATION: batch.topic})
        log_undecodable(batch)
        if batch.topic == dead_letter_topic_name(tier):
            return  # it is in the dead-letter topic already
        if len(self._tasks) >= MAX_CONCURRENT:
            log.error("%s is not dead-lettered: too many undecodable batches at once", position)
            return
        task = asyncio.create_task(self._write(tier, batch))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _write(self, tier: str, record: Record) -> None:
        while True:
            try:
                if not await self._is_dead_letter(dead_letter_topic_name(tier), str(record.position)):
                    error = undecodable_error(record)
                    await write_dead_letter(self._send, tier, record, error, attempt=1, worker=self._worker)
                    metered = {
                        semconv.TIER: tier,
                        semconv.TOPIC: record.topic,
                        semconv.ERROR_TYPE: type(error).__name__,
                    }
                    count(semconv.DEAD_LETTERS, 1, metered)
            except UnavailableError:
                await asyncio.sleep(RETRY_INTERVAL)
            except PoiseError as error:
                log.error("%s could not be dead-lettered: %s", record.position, error)  # noqa: TRY400 - expected
                return
            else:
                return

    async def _is_dead_letter(self, topic: str, position: str) -> bool:
        """Return whether a dead-letter topic has a dead letter of a position; False if the search takes too long."""
        try:
            async with asyncio.timeout(LOOKUP_TIMEOUT), self._read(topic) as stream:
                async for batch in stream.read_to_end():
                    if any(entry.header(DEAD_POSITION) == position for entry in batch):
                        return True
        except TimeoutError:
            log.warning("%s could not be searched within %.0f s", topic, LOOKUP_TIMEOUT)
        return False

    async def flush(self) -> None:
        """Wait until the last batches are written, for at most `FLUSH_TIMEOUT`."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=FLUSH_TIMEOUT)
        for task in self._tasks:
            task.cancel()
