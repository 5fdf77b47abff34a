"""Intake: messages from one consumer, many handled at once, each committed only when all before it are finished.

A message is *held* from when it is taken until it is finished. Of those that are held, some wait for their turn, some
are handled (`concurrency`), and some are parked: their handlers wait (`slots`).
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.errors import ConsumerStoppedError, KafkaError

from poise.messaging.commits import Moved, commit_once
from poise.messaging.finished import decode
from poise.messaging.offsets import Commit, OffsetTracker
from poise.messaging.record import RawRecord, Record
from poise.messaging.slots import HandlingSlots, Slot, parked
from poise.messaging.waiting import Job, Waiting

log = logging.getLogger(__name__)

POLL_MS: Final = 200
NOWHERE: Final = TopicPartition("", 0)
"""A partition that nobody has."""
COMMIT_EVERY: Final = 0.5
TRY_AGAIN_AFTER: Final = 1.0
COMMIT_AGAIN_AFTER: Final = 0.1
LAST_COMMIT_WITHIN: Final = 3.0
READ_BACK_WITHIN: Final = 3.0
"""Seconds; longer than the group's session it must not take, for meanwhile no heartbeat is sent."""


@dataclass(frozen=True, slots=True)
class IntakeLimits:
    """How much one consumer takes on."""

    concurrency: int = 64
    """Messages handled at once."""
    buffer: int = 4
    """Messages taken and not finished, as a multiple of `concurrency`: above it polling goes on, with nothing asked."""
    max_bytes: int = 32 * 1024 * 1024
    """The same bound in bytes of message bodies."""
    parked: int = 8
    """Messages whose handlers only wait, as a multiple of `concurrency`; they come on top of the buffer. As it is, all
    that one partition may have unfinished (64 × (4 + 8)) fits the metadata of a commit, wherever it lies."""
    parked_bytes: int = 32 * 1024 * 1024
    """The same bound in bytes of message bodies."""
    grace: float = 10.0
    """Seconds that begun work is given when the process stops."""

    @property
    def most(self) -> int:
        """Messages taken and not finished."""
        return self.concurrency * self.buffer


ReadBack = Callable[[Collection[TopicPartition]], Awaitable[Mapping[TopicPartition, Commit]]]
"""What the group has committed of these partitions."""


async def nothing_committed(_partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, Commit]:
    """Read nothing back: what is finished above a committed offset is handled again after a restart."""
    return {}


class ConcurrentIntake(ConsumerRebalanceListener):
    """Takes messages from a consumer and gives them to `deliver`, at most `concurrency` at once.

    `deliver` owns every failure of a message; when it raises all the same (the broker took neither reply nor dead
    letter), the message is not finished and is tried again here. Order, where it is asked for: messages of one key one
    after another; those without a key in any order.

    Rebalances (aiokafka is eager: everything is revoked, then assigned): work in progress goes on. If its partition
    comes back, its offset is recognised and committed in time; if not, it finishes and replies, and its offset is left
    to the new owner.

    Args:
        deliver: Handles one message, whole.
        ordered: Messages of one key are handled one after another.
        limits: How much to take on.
        read_back: Reads what the group has committed, when partitions are assigned.
        due: Unix seconds before which a message is not to be handled; its partition rests until then. None = at once.
    """

    def __init__(
        self,
        deliver: Callable[[Record], Awaitable[None]],
        *,
        ordered: bool,
        limits: IntakeLimits | None = None,
        read_back: ReadBack = nothing_committed,
        due: Callable[[Record], float] | None = None,
    ) -> None:
        self.deliver = deliver
        self.listener: ConsumerRebalanceListener = self
        self.failed = asyncio.Event()
        self.error: Exception | None = None
        self.assigned = asyncio.Event()
        self._limits = limits or IntakeLimits()
        self._read_back = read_back
        self._due = due
        self._consumer: AIOKafkaConsumer | None = None
        self._trackers: dict[TopicPartition, OffsetTracker] = {}
        self._waiting = Waiting(ordered=ordered)
        self.slots = HandlingSlots(
            self._limits.concurrency,
            parked=self._limits.concurrency * self._limits.parked,
            parked_bytes=self._limits.parked_bytes,
            changed=self._go_on,
        )
        # Of no message: one may begin when another one's handler gives its slot back, and is not a part of that.
        self._context = copy_context()
        self._tasks: set[asyncio.Task[None]] = set()
        self._held = 0
        self._held_bytes = 0
        self._resting: dict[
            TopicPartition, float
        ] = {}  # unix seconds until which a partition's next message is not due
        self._reading_back: set[TopicPartition] = set()
        self._full = False
        self._room = asyncio.Event()
        self._draining = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._commit_lock = asyncio.Lock()
        self._may_commit = True

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
        self._pause_and_resume(consumer)
        # A part of it at most, so that one partition that has much to give does not take all the room at once.
        room = min(self._limits.most - self._buffered, self._limits.most // 8)
        try:
            batches = await self._ask(consumer, max(1, room))
        except KafkaError as error:
            if not error.retriable:
                raise
            log.warning("reading failed, trying again: %s", error)
            await asyncio.sleep(TRY_AGAIN_AFTER)
            return
        if self._draining.is_set():
            return  # neither tracked nor committed: the next worker gets them
        # From here to the end nothing is awaited: what getmany hands out belongs to the assignment of this moment.
        for partition, raws in batches.items():
            tracker = self._trackers.setdefault(partition, OffsetTracker())
            for raw in raws:
                record = Record.of(raw)
                if self._due is not None and (at := self._due(record)) > time.time():
                    self._resting[partition] = at
                    consumer.seek(partition, record.offset)
                    break
                if tracker.deliver(record.offset):
                    self._take(Job(record, partition, tracker))
        self._start()

    async def _ask(self, consumer: AIOKafkaConsumer, room: int) -> Mapping[TopicPartition, Sequence[RawRecord]]:
        """Ask for messages, naming the partitions as soon as one is paused.

        aiokafka throws away what it has fetched of a paused partition that is asked for, and fetches it again when it
        is resumed: up to a megabyte each time that we were full.
        """
        paused = consumer.paused()
        named = consumer.assignment() - paused
        if named or not paused:
            asked: Mapping[TopicPartition, Sequence[RawRecord]] = await consumer.getmany(
                *(named if paused else ()), timeout_ms=POLL_MS, max_records=room
            )
            return asked
        await consumer.getmany(NOWHERE)  # it counts as a poll: a member that does not poll is put out of its group
        self._room.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(POLL_MS / 1_000):
                await self._room.wait()
        return {}

    def _pause_and_resume(self, consumer: AIOKafkaConsumer) -> None:
        """Ask for nothing above the bounds, again when half of the room is free, so that it does not flutter."""
        limits = self._limits
        if self._buffered >= limits.most or self._buffered_bytes >= limits.max_bytes:
            self._full = True
        elif self._has_room():
            self._full = False
        now, assigned, paused = time.time(), consumer.assignment(), consumer.paused()
        share = limits.most // (2 * max(1, len(assigned)))
        wanted = {at for at in assigned if self._full or self._waiting.behind[at] > share or self._rests(at, now)}
        if fresh := wanted - paused:  # a rebalance brings partitions that are not paused
            consumer.pause(*fresh)
        if again := paused - wanted:
            consumer.resume(*again)
            self._room.set()

    def _has_room(self) -> bool:
        """Whether half of what is not taken up by messages behind another of their key is free."""
        limits, behind = self._limits, self._waiting.behind.total()
        fits = self._buffered - behind <= (limits.most - behind) // 2
        return fits and self._buffered_bytes <= limits.max_bytes // 2

    @property
    def _buffered(self) -> int:
        """Messages that are held and not parked."""
        return self._held - self.slots.parked

    @property
    def _buffered_bytes(self) -> int:
        return self._held_bytes - self.slots.parked_bytes

    def _rests(self, partition: TopicPartition, now: float) -> bool:
        """Whether a partition is to give nothing now, whatever room there is."""
        if partition in self._reading_back:
            return True
        if self._resting.get(partition, 0.0) > now:
            return True
        self._resting.pop(partition, None)
        tracker = self._trackers.get(partition)
        return tracker is not None and tracker.full

    def _take(self, job: Job) -> None:
        self._held += 1
        self._held_bytes += job.size
        self._idle.clear()
        self._waiting.add(job)

    # -- handling -------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        while self._waiting and self.slots.free:
            job = self._waiting.take()
            slot = self.slots.open(job.size)
            task = asyncio.create_task(self._work(job, slot), context=self._context.copy())
            self._tasks.add(task)
            task.add_done_callback(partial(self._worked, slot))

    def _worked(self, slot: Slot, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        slot.close()

    def _go_on(self) -> None:
        """A slot is free, or the buffer has room again."""
        if self._draining.is_set():
            return
        self._start()
        if self._full and self._consumer is not None and self._has_room():
            self._pause_and_resume(self._consumer)

    async def _work(self, job: Job, slot: Slot) -> None:
        slot.enter()
        while True:
            try:
                await self.deliver(job.record)
                break
            except Exception:
                log.exception("%s could neither be handled nor set aside, trying again", job.record.position)
                async with parked():
                    await asyncio.sleep(TRY_AGAIN_AFTER)
        job.tracker.finish(job.record.offset)
        self._waiting.done(job)
        self._let_go(job)

    def _let_go(self, *jobs: Job) -> None:
        for job in jobs:
            self._held -= 1
            self._held_bytes -= job.size
        if not self._held:
            self._idle.set()

    # -- committing -----------------------------------------------------------------------------------------------

    async def _commit_regularly(self) -> None:
        while True:
            await asyncio.sleep(COMMIT_EVERY)
            await self._commit()

    async def _commit_all(self) -> None:
        """Commit what is finished, as often as it takes, for a while; the group must be the same for as long."""
        try:
            async with asyncio.timeout(LAST_COMMIT_WITHIN):
                while not await self._commit():  # noqa: ASYNC110 - only the coordinator knows when it is back
                    await asyncio.sleep(COMMIT_AGAIN_AFTER)
        except TimeoutError:
            log.warning("the last commit took too long and was given up: what is finished since is done again")

    async def _commit(self) -> bool:
        """Commit what is finished, in one attempt; returns whether another one could bring no more."""
        async with self._commit_lock:
            if self._consumer is None or not self._may_commit:
                return True
            trackers = dict(self._trackers)
            commits = {at: commit for at, tracker in trackers.items() if (commit := tracker.to_commit()) is not None}
            if not commits:
                return True
            try:
                await commit_once(self._consumer, commits)
            except Moved as error:
                log.info("commit refused, the partitions have moved: %s", error)
                return True
            except KafkaError as error:
                log.warning("commit failed, the next one includes it: %s", error)
                return False
            for partition, commit in commits.items():
                trackers[partition].committed(commit)
            return True

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        """Commit what is finished, then no more until it is known how far the group has come.

        A commit that is still under way afterwards is of the old generation: refused. One that began later would be of
        the new one: accepted, and if the partition was another member's in between, it would be taken back.
        """
        if revoked:
            await self._commit_all()
        self._may_commit = False

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        """Keep what came back; forget what went, its queued messages too: the new owner has them.

        Until it is known what the group has committed nothing is taken. A partition that came back may have been
        another member's in between (this one was away for longer than its session): when the group has committed more
        than is finished here, it begins anew from there, or a commit of ours would take it back.
        """
        self._trackers = {at: tracker for at, tracker in self._trackers.items() if at in assigned}
        self._resting.clear()
        self._drop(lambda job: job.partition not in assigned)
        self._reading_back = set(assigned)
        if self._consumer is not None:
            self._pause_and_resume(self._consumer)
        for partition, commit in (await self._committed(assigned)).items():
            tracker = self._trackers.get(partition)
            if tracker is None or tracker.watermark is None or tracker.watermark < commit.offset:
                self._trackers[partition] = _tracker(partition, commit)
        self._drop(lambda job: self._trackers.get(job.partition) is not job.tracker)
        self._reading_back = set()
        self._may_commit = True
        if self._consumer is not None:
            self._pause_and_resume(self._consumer)
        self.assigned.set()

    async def _committed(self, assigned: set[TopicPartition]) -> Mapping[TopicPartition, Commit]:
        if not assigned:
            return {}
        try:
            async with asyncio.timeout(READ_BACK_WITHIN):
                return await self._read_back(assigned)
        except Exception as error:  # noqa: BLE001 - whatever it is, no partition may rest for ever
            log.warning("what is finished above the committed offsets is not known and is done again: %r", error)
            # Without it a partition that was away cannot be told from one that was not: all of them begin anew.
            self._trackers = {}
            return {}

    def _drop(self, gone: Callable[[Job], bool]) -> None:
        self._let_go(*self._waiting.drop(gone))

    # -- stopping -------------------------------------------------------------------------------------------------

    async def drain(self) -> None:
        """Take no more, finish what is begun within the grace, commit; what was only queued is left to others."""
        if self._draining.is_set():
            return
        self._draining.set()
        self._drop(lambda _: True)
        try:
            await asyncio.wait_for(self._idle.wait(), self._limits.grace)
        except TimeoutError:
            log.warning("%d messages were interrupted; another worker will take them", len(self._tasks))
        await self._commit_all()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _tracker(partition: TopicPartition, commit: Commit) -> OffsetTracker:
    try:
        return OffsetTracker(commit.offset, decode(commit.offset, commit.metadata))
    except ValueError as error:
        log.warning("%s: %s, passed over: what is finished above %d is done again", partition, error, commit.offset)
        return OffsetTracker(commit.offset)
