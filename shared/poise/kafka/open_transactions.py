"""Open transactions: what stands behind one is not handed out; who waits for it is told so, at the deadline.

A client begins a transaction on a topic and neither commits nor aborts it: whoever reads what is committed gets nothing
that was written behind its first record, until the broker aborts it. That is `transaction.max.timeout.ms` at most, 15
minutes as Kafka is shipped. So the owner of a partition looks at what waits there:

    the last stable offset stays behind the high watermark → read on from it, committed or not → note who waits for a
    reply, and until when → at that time send the fault; when the record is handed out after all, it has expired
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

from poise.errors import PoiseError, UnavailableError
from poise.kafka.connection import Connection
from poise.kafka.patches.lenient_fetch import TransactionalRecord
from poise.kafka.record import Record

log = logging.getLogger(__name__)

CHECK_INTERVAL: Final = 1.0
"""Seconds between two looks; what is behind in both stands behind a transaction that is left open."""
MAX_WAITERS: Final = 10_000
"""Most callers tracked at once, over all partitions of a consumer. Further records are read when some have expired."""
POLL_TIMEOUT_MS: Final = 200
MAX_POLL_RECORDS: Final = 500
_FETCH_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class WaitingCaller:
    """Who waits for the reply to a message."""

    deadline: float
    """Unix seconds."""
    expire: Callable[[], Awaitable[None]]
    """Sends the fault."""


@dataclass(order=True, slots=True)
class _Deadline:
    deadline: float
    offset: int
    waiter: WaitingCaller = field(compare=False)


@dataclass(slots=True)
class _BlockedPartition:
    """A partition whose last stable offset stays where it is."""

    stable: int
    next: int
    """The first offset that was not looked at yet."""
    deadlines: list[_Deadline] = field(default_factory=list)
    """A heap."""


class OpenTransactions:
    """Tells who waits for what stands behind open transactions, in the partitions of one consumer.

    Args:
        connection: How the broker is reached.
        waiting: Finds who waits for the reply to a message.
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
        """Look at a consumer's partitions for as long as it reads."""
        try:
            while True:
                await asyncio.sleep(self._delay())
                self._find_blocked(consumer)
                try:
                    await self._read(consumer)
                    await self._expire()
                except (KafkaError, UnavailableError) as error:
                    log.warning("what stands behind an open transaction cannot be looked at, trying again: %s", error)
                    await self._close()
        finally:
            await self._close()

    def _delay(self) -> float:
        earliest = min(
            (blocked.deadlines[0].deadline for blocked in self._blocked.values() if blocked.deadlines), default=None
        )
        return CHECK_INTERVAL if earliest is None else min(CHECK_INTERVAL, max(0.0, earliest - time.time()))

    def _find_blocked(self, consumer: AIOKafkaConsumer) -> None:
        """Find the partitions that are held up, and forget those that are not any more."""
        now = {at: stable for at in consumer.assignment() if (stable := _blocked_at(consumer, at)) is not None}
        for at, stable in now.items():
            blocked = self._blocked.get(at)
            if blocked is None and self._stable_before.get(at) == stable:
                log.warning("%s/%d: a client left a transaction open: what was written from %d on waits", *at, stable)
                self._blocked[at] = _BlockedPartition(stable, stable)
            elif blocked is not None and blocked.stable != stable:
                blocked.stable, blocked.next = stable, max(blocked.next, stable)
                blocked.deadlines = [one for one in blocked.deadlines if one.offset >= stable]
                heapq.heapify(blocked.deadlines)
        for at in self._blocked.keys() - now.keys():
            log.info("%s/%d: nothing waits for an open transaction any more", *at)
            del self._blocked[at]
        self._stable_before = now

    async def _read(self, consumer: AIOKafkaConsumer) -> None:
        """Note who waits for what has not been looked at yet."""
        wanted = {at: to for at, to in self._blocked.items() if to.next < (consumer.highwater(at) or 0)}
        if sum(len(blocked.deadlines) for blocked in self._blocked.values()) >= MAX_WAITERS or not wanted:
            return
        reader = await self._open()
        reader.assign(list(wanted))
        for at, blocked in wanted.items():
            reader.seek(at, blocked.next)
        found = await reader.getmany(timeout_ms=POLL_TIMEOUT_MS, max_records=MAX_POLL_RECORDS)
        for at, raws in found.items():
            for raw in raws:
                await self._track(self._blocked[at], raw)
        for at, blocked in wanted.items():
            blocked.next = max(blocked.next, await reader.position(at))

    async def _track(self, blocked: _BlockedPartition, raw: Any) -> None:
        if isinstance(raw, TransactionalRecord):
            return  # it may never be: whoever wrote it has not committed it
        record = Record.of(raw)
        waiter = None if record.undecodable else await self._find_caller(record)
        if waiter is not None:
            heapq.heappush(blocked.deadlines, _Deadline(waiter.deadline, record.offset, waiter))

    async def _expire(self) -> None:
        for blocked in self._blocked.values():
            while blocked.deadlines and blocked.deadlines[0].deadline <= time.time():
                try:
                    await blocked.deadlines[0].waiter.expire()
                except UnavailableError:
                    raise
                except PoiseError as error:
                    log.warning("nobody was told that offset %d expired: %s", blocked.deadlines[0].offset, error)
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
            await reader.stop()


def _blocked_at(consumer: AIOKafkaConsumer, at: TopicPartition) -> int | None:
    """The last stable offset of a partition that is read up to it, and holds more; None = nothing is held up."""
    stable, highwater = consumer.last_stable_offset(at), consumer.highwater(at)
    return stable if stable is not None and highwater is not None and 0 <= stable < highwater else None
