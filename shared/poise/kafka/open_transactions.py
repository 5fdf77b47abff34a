"""Open transactions: expire the messages behind one at their deadlines, although no consumer receives them yet.

If a client begins a transaction on a topic and neither commits nor aborts it, a `read_committed` consumer receives
nothing that was written after its first record until the broker aborts it: after `transaction.max.timeout.ms` at most,
15 minutes by default. Meanwhile the owner of the partition reads ahead:

    the last stable offset stays below the high watermark → read from it with `read_uncommitted` → note each caller that
    waits for a reply, and its deadline → at the deadline send the fault; the record has expired when it is delivered
"""

import asyncio
import heapq
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from poise.errors import TerminalError, UnavailableError
from poise.kafka.connection import Connection
from poise.kafka.patches.lenient_fetch import TransactionalRecord
from poise.kafka.record import Record
from poise.kafka.retriable import is_retriable
from poise.kafka.shielded import shielded_stop

log = logging.getLogger(__name__)

CHECK_INTERVAL: Final = 1.0
"""Seconds between two checks. A last stable offset that blocks in two successive checks is a transaction left open."""
MAX_WAITERS: Final = 10_000
"""Maximum number of callers tracked at once, over all partitions of a consumer. Further records are read when some have
expired."""
POLL_TIMEOUT_MS: Final = 200
MAX_POLL_RECORDS: Final = 500
_FETCH_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class WaitingCaller:
    """A caller that waits for the reply to a message."""

    deadline: float
    """Unix seconds."""
    expire: Callable[[], Awaitable[None]]
    """Sends the fault to the caller."""


@dataclass(order=True, slots=True)
class _Deadline:
    deadline: float
    offset: int
    caller: WaitingCaller = field(compare=False)


@dataclass(slots=True)
class _BlockedPartition:
    """A partition whose last stable offset does not move."""

    stable: int
    next: int
    """The first offset that was not read ahead yet."""
    deadlines: list[_Deadline] = field(default_factory=list)
    """A heap."""


class OpenTransactions:
    """Sends faults to callers whose messages are behind open transactions, in the partitions of one consumer.

    Args:
        connection: How to connect to the broker.
        find_caller: Returns the caller that waits for the reply to a message, if any.
    """

    def __init__(
        self, connection: Connection, find_caller: Callable[[Record], Awaitable[WaitingCaller | None]]
    ) -> None:
        self._connection = connection
        self._find_caller = find_caller
        self._stable_before: Mapping[TopicPartition, int] = {}
        self._blocked: dict[TopicPartition, _BlockedPartition] = {}
        self._reader: AIOKafkaConsumer | None = None

    async def watch(self, consumer: AIOKafkaConsumer) -> None:
        """Watch a consumer's partitions until cancelled."""
        try:
            while True:
                await asyncio.sleep(self._delay())
                self._find_blocked(consumer)
                try:
                    await self._read(consumer)
                    await self._expire()
                except (KafkaError, UnavailableError) as error:
                    if not is_retriable(error):
                        raise
                    log.warning("records behind an open transaction cannot be read, trying again: %s", error)
                    await self._close()
        finally:
            await self._close()

    def _delay(self) -> float:
        earliest = min(
            (blocked.deadlines[0].deadline for blocked in self._blocked.values() if blocked.deadlines), default=None
        )
        return CHECK_INTERVAL if earliest is None else min(CHECK_INTERVAL, max(0.0, earliest - time.time()))

    def _find_blocked(self, consumer: AIOKafkaConsumer) -> None:
        """Find the partitions that are blocked, and forget those that no longer are."""
        now = {p: stable for p in consumer.assignment() if (stable := _blocked_at(consumer, p)) is not None}
        for partition, stable in now.items():
            blocked = self._blocked.get(partition)
            if blocked is None and self._stable_before.get(partition) == stable:
                log.warning(
                    "%s/%d: a client left a transaction open: records from %d on are blocked", *partition, stable
                )
                self._blocked[partition] = _BlockedPartition(stable, stable)
            elif blocked is not None and blocked.stable != stable:
                blocked.stable, blocked.next = stable, max(blocked.next, stable)
                blocked.deadlines = [one for one in blocked.deadlines if one.offset >= stable]
                heapq.heapify(blocked.deadlines)
        for partition in self._blocked.keys() - now.keys():
            log.info("%s/%d: no longer blocked by an open transaction", *partition)
            del self._blocked[partition]
        self._stable_before = now

    async def _read(self, consumer: AIOKafkaConsumer) -> None:
        """Read ahead, and track the callers of records that were not read yet."""
        wanted = {p: blocked for p, blocked in self._blocked.items() if blocked.next < (consumer.highwater(p) or 0)}
        if sum(len(blocked.deadlines) for blocked in self._blocked.values()) >= MAX_WAITERS or not wanted:
            return
        reader = await self._open()
        reader.assign(list(wanted))
        for partition, blocked in wanted.items():
            reader.seek(partition, blocked.next)
        found = await reader.getmany(timeout_ms=POLL_TIMEOUT_MS, max_records=MAX_POLL_RECORDS)
        for partition, raws in found.items():
            for raw in raws:
                await self._track(self._blocked[partition], raw)
        for partition, blocked in wanted.items():
            blocked.next = max(blocked.next, await reader.position(partition))

    async def _track(self, blocked: _BlockedPartition, raw: Any) -> None:
        if isinstance(raw, TransactionalRecord):
            return  # not committed: it may never be delivered
        record = Record.of(raw)
        caller = None if record.undecodable else await self._find_caller(record)
        if caller is not None:
            heapq.heappush(blocked.deadlines, _Deadline(caller.deadline, record.offset, caller))

    async def _expire(self) -> None:
        for blocked in self._blocked.values():
            while blocked.deadlines and blocked.deadlines[0].deadline <= time.time():
                try:
                    await blocked.deadlines[0].caller.expire()
                except TerminalError as error:
                    log.warning(
                        "no fault was sent for offset %d, which expired: %s", blocked.deadlines[0].offset, error
                    )
                heapq.heappop(blocked.deadlines)

    async def _open(self) -> AIOKafkaConsumer:
        if self._reader is None:
            reader = AIOKafkaConsumer(
                **self._connection.client_options(),
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                isolation_level="read_uncommitted",
                fetch_max_wait_ms=POLL_TIMEOUT_MS,
                fetch_max_bytes=_FETCH_BYTES,
            )
            await reader.start()
            self._reader = reader
        return self._reader

    async def _close(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            await shielded_stop(reader.stop())


def _blocked_at(consumer: AIOKafkaConsumer, partition: TopicPartition) -> int | None:
    """Return the last stable offset of a partition that is read up to it but has more records; None = not blocked."""
    stable, highwater = consumer.last_stable_offset(partition), consumer.highwater(partition)
    return stable if stable is not None and highwater is not None and 0 <= stable < highwater else None
