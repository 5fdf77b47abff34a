"""Intake: messages from one consumer, many handled at once, each committed only when all before it are finished."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.errors import CommitFailedError, ConsumerStoppedError, IllegalStateError, KafkaError

from poise.messaging.offsets import OffsetTracker
from poise.messaging.record import Record

log = logging.getLogger(__name__)

POLL_MS: Final = 200
COMMIT_EVERY: Final = 0.5
TRY_AGAIN_AFTER: Final = 1.0
LAST_COMMIT_WITHIN: Final = 3.0


@dataclass(frozen=True, slots=True)
class IntakeLimits:
    """How much one consumer takes on."""

    concurrency: int = 64
    """Messages handled at once."""
    buffer: int = 4
    """Messages taken and not finished, as a multiple of `concurrency`: above it polling goes on, with nothing asked."""
    max_bytes: int = 32 * 1024 * 1024
    """The same bound in bytes of message bodies."""
    grace: float = 10.0
    """Seconds that begun work is given when the process stops."""


@dataclass(eq=False, slots=True)
class _Job:
    record: Record
    partition: TopicPartition
    tracker: OffsetTracker

    @property
    def size(self) -> int:
        return len(self.record.value or b"")


class ConcurrentIntake(ConsumerRebalanceListener):
    """Takes messages from a consumer and gives them to `deliver`, at most `concurrency` at once.

    `deliver` owns every failure of a message; when it raises all the same (the broker took neither reply nor dead
    letter), the message is not finished and is tried again here. Order, where it is asked for: messages of one key one
    after another; those without a key in any order.

    Rebalances (aiokafka is eager: everything is revoked, then assigned): work in progress goes on. If its partition
    comes back, its offset is recognised and committed in time; if not, it finishes and replies, and its offset is left
    to the new owner.
    """

    def __init__(
        self, deliver: Callable[[Record], Awaitable[None]], *, ordered: bool, limits: IntakeLimits | None = None
    ) -> None:
        self.deliver = deliver
        self.listener: ConsumerRebalanceListener = self
        self.failed = asyncio.Event()
        self.error: Exception | None = None
        self.assigned = asyncio.Event()
        self._ordered = ordered
        self._limits = limits or IntakeLimits()
        self._consumer: AIOKafkaConsumer | None = None
        self._trackers: dict[TopicPartition, OffsetTracker] = {}
        self._ready: deque[_Job] = deque()
        self._chains: dict[bytes, deque[_Job]] = {}  # by key: what waits behind the one being handled
        self._tasks: set[asyncio.Task[None]] = set()
        self._held = 0
        self._held_bytes = 0
        self._draining = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._commit_lock = asyncio.Lock()

    # -- taking ---------------------------------------------------------------------------------------------------

    async def run(self, consumer: AIOKafkaConsumer) -> None:
        """Poll until told to drain; polling never stops for handling."""
        self._consumer = consumer
        committer = asyncio.create_task(self._commit_regularly())
        try:
            while not self._draining.is_set():
                await self._poll(consumer)
        except ConsumerStoppedError:
            return
        except Exception as error:
            log.exception("reading stopped")
            self.error = error
            self.failed.set()
        finally:
            committer.cancel()

    async def _poll(self, consumer: AIOKafkaConsumer) -> None:
        self._pause_or_resume(consumer)
        room = self._limits.concurrency * self._limits.buffer - self._held
        try:
            batches = await consumer.getmany(timeout_ms=POLL_MS, max_records=max(1, room))
        except KafkaError as error:
            if not error.retriable:
                raise
            log.warning("reading failed, trying again: %s", error)
            await asyncio.sleep(TRY_AGAIN_AFTER)
            return
        if self._draining.is_set():
            return  # neither tracked nor committed: the next worker gets them
        for partition, raws in batches.items():
            tracker = self._trackers.setdefault(partition, OffsetTracker())
            for raw in raws:
                if tracker.deliver(raw.offset):
                    self._take(_Job(Record.of(raw), partition, tracker))
        self._start_ready()

    def _pause_or_resume(self, consumer: AIOKafkaConsumer) -> None:
        """Stop asking above the bound, ask again below half of it, so that it does not flutter."""
        bound = self._limits.concurrency * self._limits.buffer
        paused = consumer.paused()
        if self._held >= bound or self._held_bytes >= self._limits.max_bytes:
            if fresh := consumer.assignment() - paused:  # a rebalance brings partitions that are not paused
                consumer.pause(*fresh)
        elif paused and self._held <= bound // 2 and self._held_bytes <= self._limits.max_bytes // 2:
            consumer.resume(*paused)

    def _take(self, job: _Job) -> None:
        self._held += 1
        self._held_bytes += job.size
        self._idle.clear()
        key = job.record.key
        if not self._ordered or key is None:
            self._ready.append(job)
        elif key in self._chains:
            self._chains[key].append(job)
        else:
            self._chains[key] = deque()
            self._ready.append(job)

    # -- handling -------------------------------------------------------------------------------------------------

    def _start_ready(self) -> None:
        while self._ready and len(self._tasks) < self._limits.concurrency:
            task = asyncio.create_task(self._work(self._ready.popleft()))
            self._tasks.add(task)
            task.add_done_callback(self._worked)

    def _worked(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if self._draining.is_set():
            return
        self._start_ready()
        if self._consumer is not None:
            self._pause_or_resume(self._consumer)

    async def _work(self, job: _Job) -> None:
        while True:
            try:
                await self.deliver(job.record)
                break
            except Exception:
                log.exception("%s could neither be handled nor set aside, trying again", job.record.position)
                await asyncio.sleep(TRY_AGAIN_AFTER)
        job.tracker.finish(job.record.offset)
        self._release(job)

    def _release(self, job: _Job) -> None:
        self._held -= 1
        self._held_bytes -= job.size
        key = job.record.key
        if self._ordered and key is not None and (chain := self._chains.get(key)) is not None:
            if chain:
                self._ready.appendleft(chain.popleft())
            else:
                del self._chains[key]
        if not self._held:
            self._idle.set()

    # -- committing -----------------------------------------------------------------------------------------------

    async def _commit_regularly(self) -> None:
        while True:
            await asyncio.sleep(COMMIT_EVERY)
            await self._commit()

    async def _commit(self) -> None:
        async with self._commit_lock:
            if self._consumer is None:
                return
            offsets = {
                partition: offset
                for partition, tracker in self._trackers.items()
                if (offset := tracker.to_commit()) is not None
            }
            if not offsets:
                return
            try:
                await self._consumer.commit(offsets)
            except (CommitFailedError, IllegalStateError) as error:
                log.info("commit refused, the partitions have moved: %s", error)
                return
            except KafkaError as error:
                log.warning("commit failed, the next one includes it: %s", error)
                return
            for partition, offset in offsets.items():
                self._trackers[partition].committed(offset)

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        """Commit what is finished; no commit of ours is under way when this returns."""
        if not revoked:
            return
        try:
            await asyncio.wait_for(self._commit(), LAST_COMMIT_WITHIN)
        except TimeoutError:
            log.warning("the commit before a rebalance took too long and was given up")

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        """Keep what came back; forget what went, its queued messages too: the new owner has them."""
        self._trackers = {partition: tracker for partition, tracker in self._trackers.items() if partition in assigned}
        self._drop_queued(lambda job: job.partition not in assigned)
        self.assigned.set()

    def _drop_queued(self, gone: Callable[[_Job], bool]) -> None:
        dropped = [job for job in self._ready if gone(job)]
        self._ready = deque(job for job in self._ready if not gone(job))
        for (
            job
        ) in dropped:  # the head of its key's chain: what waits behind it stands in the same partition and goes too
            if self._ordered and job.record.key is not None:
                dropped = [*dropped, *self._chains.pop(job.record.key, ())]
        for chain in self._chains.values():
            dropped = [*dropped, *(job for job in chain if gone(job))]
            kept = [job for job in chain if not gone(job)]
            chain.clear()
            chain.extend(kept)
        self._held -= len(dropped)
        self._held_bytes -= sum(job.size for job in dropped)
        if not self._held:
            self._idle.set()

    # -- stopping -------------------------------------------------------------------------------------------------

    async def drain(self) -> None:
        """Take no more, finish what is begun within the grace, commit; what was only queued is left to others."""
        if self._draining.is_set():
            return
        self._draining.set()
        self._drop_queued(lambda _: True)
        try:
            await asyncio.wait_for(self._idle.wait(), self._limits.grace)
        except TimeoutError:
            log.warning("%d messages were interrupted; another worker will take them", len(self._tasks))
        await self._commit()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
