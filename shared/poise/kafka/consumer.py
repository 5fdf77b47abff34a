"""A concurrent consumer: handles many messages at once, and commits an offset when all before it are finished.

A message is *in flight* from when it is polled until it is finished. It waits in the queue, is being handled (at most
`concurrency` at once), or is parked: its handler waits for something outside the process (`handling_slots`).
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.errors import KafkaError, NoOffsetForPartitionError, OffsetOutOfRangeError

from poise.kafka.group_offsets import GroupOffsets
from poise.kafka.group_state import FetchGroupState, no_group_state
from poise.kafka.handling_slots import HandlingSlots, Slot, parked
from poise.kafka.keyed_queue import KeyedQueue, PendingRecord
from poise.kafka.patches.static_membership import fenced_error
from poise.kafka.record import RawRecord, Record
from poise.kafka.retriable import is_retriable
from poise.kafka.topic_identities import TopicIdentities
from poise.liveness import Component, Liveness

log = logging.getLogger(__name__)

POLL_TIMEOUT_MS: Final = 200
NO_PARTITION: Final = TopicPartition("", 0)
"""A partition that no topic has."""
RETRY_BACKOFF: Final = 1.0
REJECT_AFTER: Final = 10.0
"""Seconds after which a message that waits for a slot is rejected, if its caller waits and all slots are exhausted."""
RESET_POSITION_TIMEOUT: Final = 5.0


@dataclass(frozen=True, slots=True)
class ConsumerLimits:
    """How much one consumer takes in."""

    concurrency: int = 64
    """Messages handled at once."""
    buffer_factor: int = 4
    """Maximum of in-flight, not parked messages, as a multiple of `concurrency`; at it, all partitions are paused."""
    max_bytes: int = 32 * 1024 * 1024
    """The same bound in bytes of messages."""
    parked_factor: int = 8
    """Maximum number of parked messages, likewise, in addition to the buffer. With the defaults, all messages that one
    partition can have in flight (64 × (4 + 8)) fit a commit's metadata, if gaps are below about 16,000 offsets."""
    max_parked_bytes: int = 32 * 1024 * 1024
    """The same bound in bytes of messages."""
    drain_timeout: float = 10.0
    """Seconds for messages in progress to finish when the process stops."""

    @property
    def max_buffered(self) -> int:
        """In-flight messages that are not parked."""
        return self.concurrency * self.buffer_factor


class ConcurrentConsumer(ConsumerRebalanceListener):
    """Passes the messages of a consumer to a handler, at most `concurrency` at once.

    The handler is responsible for every failure of a message. If it raises anyway (the broker took neither reply nor
    dead letter), the message stays unfinished and is retried here. If ordered, messages of one key are handled one
    after another; messages without a key are handled in any order.

    Rebalances (aiokafka is eager: everything is revoked, then assigned): messages in progress continue. If their
    partition comes back, their offsets are recognized and committed. If not, they finish and reply, and the new owner
    commits their offsets.

    Replaced logs (the topic was deleted and created again, the log was truncated or restored, an offset beyond its end
    was committed): reading restarts at the beginning of the log. Messages in progress continue, and their offsets are
    not committed.

    Args:
        handler: Handles one message.
        ordered: Whether messages of one key are handled one after another.
        limits: How much to take in.
        fetch_state: Fetches the group's commits when partitions are assigned.
        reject: Rejects a message whose caller waits while all slots are exhausted; None = it waits for its turn.
        not_before: Unix seconds before which a message must not be handled; its partition is paused until then.
            None = all are handled at once.
        component: Receives each poll, and the error that ends the consumer.
        identities: Notices recreated topics; None = they are not noticed while they are read.
    """

    def __init__(
        self,
        handler: Callable[[Record], Awaitable[None]],
        *,
        ordered: bool,
        limits: ConsumerLimits | None = None,
        fetch_state: FetchGroupState = no_group_state,
        not_before: Callable[[Record], float] | None = None,
        reject: Callable[[Record], Awaitable[None]] | None = None,
        component: Component | None = None,
        identities: TopicIdentities | None = None,
    ) -> None:
        self.handle = handler
        self.listener: ConsumerRebalanceListener = self
        self.component = component or Liveness().component("consumer")
        self.assigned = asyncio.Event()
        self.background: list[Callable[[AIOKafkaConsumer], Coroutine[Any, Any, None]]] = []
        """Coroutines that run as long as the consumer polls."""
        self.offsets = GroupOffsets(fetch_state, identities)
        self._limits = limits or ConsumerLimits()
        self._not_before = not_before
        self._reject = reject
        self._consumer: AIOKafkaConsumer | None = None
        self._queue = KeyedQueue(ordered=ordered)
        self.slots = HandlingSlots(
            self._limits.concurrency,
            max_parked=self._limits.concurrency * self._limits.parked_factor,
            max_parked_bytes=self._limits.max_parked_bytes,
            on_change=self._capacity_freed,
        )
        # Without a message's context: one message may start when another's handler frees its slot.
        self._context = copy_context()
        self._tasks: set[asyncio.Task[None]] = set()
        self._in_flight = 0
        self._in_flight_bytes = 0
        self._paused_until: dict[TopicPartition, float] = {}
        """Unix seconds until which a partition is paused because its next message is not due."""
        self._assigning: set[TopicPartition] | None = None
        """Partitions that are assigned while the group's commits are not known yet; None = they are known."""
        self._full = False
        self._resumed = asyncio.Event()
        self._draining = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    # -- polling --------------------------------------------------------------------------------------------------

    async def run(self, consumer: AIOKafkaConsumer) -> None:
        """Poll until `drain` is called. Handlers never block polling. Any other end also ends the process."""
        self._consumer = consumer
        self.offsets.start(consumer)
        background = [self.component.run(work(consumer)) for work in self.background]
        background.append(self.component.run(self.offsets.commit_regularly()))
        try:
            while not self._draining.is_set():
                await self._poll(consumer)
        except Exception as error:
            if not self._draining.is_set():  # else it is stopped: the next owner polls these messages again
                log.exception("%s stopped", self.component.name)
                self.component.fail(error)
        finally:
            if self._draining.is_set():
                self.component.close()
            else:
                self.component.fail(RuntimeError("its poll loop was cancelled unexpectedly"))
            for task in background:
                task.cancel()
            self.offsets.stop()

    async def _poll(self, consumer: AIOKafkaConsumer) -> None:
        self._pause_and_resume()
        # At most an eighth, so that one busy partition does not fill the buffer at once.
        room = min(self._limits.max_buffered - self._buffered, self._limits.max_buffered // 8)
        batches = await self._fetch(consumer, max(1, room))
        if self._draining.is_set():
            return  # neither tracked nor committed: the next worker gets them
        # From here on nothing is awaited: what getmany returned belongs to the current assignment.
        for partition, raws in batches.items():
            tracker = self.offsets.tracker(partition)
            for raw in raws:
                record = Record.of(raw)
                if self._not_before is not None and (due := self._not_before(record)) > time.time():
                    self._paused_until[partition] = due
                    consumer.seek(partition, record.offset)
                    break
                if tracker.deliver(record.offset):
                    self._enqueue(PendingRecord(record, partition, tracker))
        self._start_pending()

    async def _fetch(self, consumer: AIOKafkaConsumer, room: int) -> Mapping[TopicPartition, Sequence[RawRecord]]:
        """Return messages by partition; none if a partition's position must be reset first."""
        try:
            batches = await self._getmany(consumer, room)
            fetching: Any = consumer._fetcher  # noqa: SLF001 - the client does not report that its fetcher ended
            if fetching.error_future.done():
                raise RuntimeError(f"Kafka's client has stopped fetching: {fetching.error_future}")
        except OffsetOutOfRangeError as error:
            for partition, offset in error.args[0].items():
                await self._reset_position(partition, offset)
        except NoOffsetForPartitionError as error:
            self.offsets.seek(error.args[0], 0)
        except KafkaError as error:
            if not is_retriable(error):
                raise
            log.warning("polling failed, trying again: %s", error)
            self.component.report_blocked(str(error))
            await asyncio.sleep(RETRY_BACKOFF)
        else:
            if outage := self.offsets.outage():
                self.component.report_blocked(outage)
            else:
                self.component.progress()
            return batches
        return {}

    async def _reset_position(self, partition: TopicPartition, offset: int) -> None:
        try:
            async with asyncio.timeout(RESET_POSITION_TIMEOUT):
                await self.offsets.reset_position(partition, offset)
        except (KafkaError, TimeoutError) as error:
            problem = f"the beginning of {partition.topic}/{partition.partition} is not known: {error!r}"
            self.component.report_blocked(problem)

    async def _getmany(self, consumer: AIOKafkaConsumer, room: int) -> Mapping[TopicPartition, Sequence[RawRecord]]:
        """Poll, naming the partitions if one is paused.

        aiokafka discards the prefetched records of a paused partition that is polled: up to a megabyte each time.
        """
        paused = consumer.paused()
        named = consumer.assignment() - paused
        if named or not paused:
            polled: Mapping[TopicPartition, Sequence[RawRecord]]
            polled = await consumer.getmany(*(named if paused else ()), timeout_ms=POLL_TIMEOUT_MS, max_records=room)
            return polled
        await consumer.getmany(NO_PARTITION)  # counts as a poll: a member that does not poll is removed from its group
        self._resumed.clear()
        with contextlib.suppress(TimeoutError):  # time for the next poll
            async with asyncio.timeout(POLL_TIMEOUT_MS / 1_000):
                await self._resumed.wait()
        return {}

    def _pause_and_resume(self) -> None:
        """Pause partitions above the limits; resume when half of the buffer is free, so that it does not flutter."""
        consumer, limits = self._consumer, self._limits
        if consumer is None:
            return
        if self._buffered >= limits.max_buffered or self._buffered_bytes >= limits.max_bytes:
            self._full = True
        elif self._has_capacity():
            self._full = False
        now, assigned, paused = time.time(), consumer.assignment(), consumer.paused()
        blocked, share = self._queue.blocked_count, limits.max_buffered // (2 * max(1, len(assigned)))
        to_pause = {p for p in assigned if self._full or blocked[p] > share or self._must_pause(p, now)}
        if fresh := to_pause - paused:  # a rebalance brings partitions that are not paused
            consumer.pause(*fresh)
        if again := paused - to_pause:
            consumer.resume(*again)
            self._resumed.set()

    def _has_capacity(self) -> bool:
        """Return whether half of the buffer that blocked messages do not occupy is free."""
        limits, blocked = self._limits, self._queue.blocked_count.total()
        fits = self._buffered - blocked <= (limits.max_buffered - blocked) // 2
        return fits and self._buffered_bytes <= limits.max_bytes // 2

    @property
    def _buffered(self) -> int:
        """Messages that are in flight and not parked."""
        return self._in_flight - self.slots.parked_count

    @property
    def _buffered_bytes(self) -> int:
        return self._in_flight_bytes - self.slots.parked_bytes

    def _must_pause(self, partition: TopicPartition, now: float) -> bool:
        """Return whether a partition must be paused even if the buffer has room."""
        if self._assigning and partition in self._assigning:
            return True
        if self._paused_until.get(partition, 0.0) > now:
            return True
        self._paused_until.pop(partition, None)
        return self.offsets.metadata_full(partition)

    def _enqueue(self, pending: PendingRecord) -> None:
        self._in_flight += 1
        self._in_flight_bytes += pending.size
        self._idle.clear()
        self._queue.add(pending)

    # -- handling -------------------------------------------------------------------------------------------------

    def _start_pending(self) -> None:
        if self._assigning is not None:
            return  # queued messages may belong to another member by now
        while self._queue and self.slots.free:
            pending = self._queue.pop()
            self._start_task(pending, self.handle, self.slots.acquire(pending.size))
        if self._reject is not None and self.slots.exhausted:
            before = time.time() - REJECT_AFTER
            for pending in self._queue.pop_matching(
                lambda pending: pending.record.timestamp < before and pending.expects_reply
            ):
                self._start_task(pending, self._reject, None)

    def _start_task(
        self, pending: PendingRecord, handler: Callable[[Record], Awaitable[None]], slot: Slot | None
    ) -> None:
        task = asyncio.create_task(self._process(pending, handler, slot), context=self._context.copy())
        self._tasks.add(task)
        task.add_done_callback(partial(self._task_done, slot))

    def _task_done(self, slot: Slot | None, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.component.fail(error)
        if slot is not None:
            slot.release()

    def _capacity_freed(self) -> None:
        """Continue when a slot is free or the buffer has room."""
        if self._draining.is_set():
            return
        self._start_pending()
        if self._full and self._has_capacity():
            self._pause_and_resume()

    async def _process(
        self, pending: PendingRecord, handler: Callable[[Record], Awaitable[None]], slot: Slot | None
    ) -> None:
        if slot is not None:
            slot.activate()
        while True:
            try:
                await handler(pending.record)
                break
            except Exception:
                log.exception("%s could be neither handled nor dead-lettered, trying again", pending.record.position)
                async with parked():
                    await asyncio.sleep(RETRY_BACKOFF)
        pending.tracker.finish(pending.record.offset)
        self._queue.complete(pending)
        self._release(pending)

    def _release(self, *records: PendingRecord) -> None:
        for pending in records:
            self._in_flight -= 1
            self._in_flight_bytes -= pending.size
        if not self._in_flight:
            self._idle.set()

    # -- rebalances -----------------------------------------------------------------------------------------------

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        """Commit what is finished, then nothing until the group's commits are known again."""
        with self._ending_on_error():
            await self.offsets.revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        """Resume where the group is, and drop the queued messages of lost partitions: their new owner handles them.

        Nothing is polled until the group's commits are known.
        """
        with self._ending_on_error():
            self._paused_until.clear()
            self._assigning = set(assigned)
            self._pause_and_resume()
            await self.offsets.assigned(assigned)
            self._drop(lambda pending: not self.offsets.is_current(pending.partition, pending.tracker))
            self._assigning = None
            self._pause_and_resume()
            self._start_pending()
            self.assigned.set()

    @contextlib.contextmanager
    def _ending_on_error(self) -> Iterator[None]:
        """End the process on an error: aiokafka only logs it, and would poll nothing from then on."""
        try:
            yield
        except Exception as error:
            self.component.fail(error)
            raise

    def fenced(self, instance: str) -> None:
        """End the process: another one has joined the group under the same instance name."""
        self.component.fail(fenced_error(instance))

    def _drop(self, gone: Callable[[PendingRecord], bool]) -> None:
        self._release(*self._queue.remove(gone))

    # -- stopping -------------------------------------------------------------------------------------------------

    async def drain(self) -> None:
        """Stop polling, drop queued messages, finish those in progress within `drain_timeout`, and commit."""
        if self._draining.is_set():
            return
        self._draining.set()
        self._drop(lambda _: True)
        try:
            await asyncio.wait_for(self._idle.wait(), self._limits.drain_timeout)
        except TimeoutError:
            log.warning("%d messages were interrupted; another worker will handle them", len(self._tasks))
        try:
            await self.offsets.commit_all()
        except Exception:
            log.exception("%s: the last commit failed, so some messages are handled again", self.component.name)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
