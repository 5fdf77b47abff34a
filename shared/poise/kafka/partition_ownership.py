"""Ownership: which partitions of a topic this process works for, by a consumer group that reads nothing of them.

A group decides who owns a partition within seconds, not at once: one that was away, or is slow to hear of a rebalance,
still works for what another owns already. So whoever works for a partition also needs a fence where it writes: see
`Transactions`, opened under a name of the partition's.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from types import TracebackType
from typing import Any, Final, Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.errors import KafkaError

from poise.errors import PoiseError, RetryableError
from poise.kafka.consumer import NO_PARTITION
from poise.kafka.group_config import group_config
from poise.kafka.log_reader import LogAccess
from poise.liveness import Part
from poise.settings import MeshSettings
from poise.text.error_text import words_of

log = logging.getLogger(__name__)

POLL_INTERVAL: Final = 0.2
"""Seconds; a member that does not poll is put out of its group."""
CANCEL_TIMEOUT: Final = 5.0
"""Seconds that work is given to end when its partition is revoked. No heartbeat is sent meanwhile: well below the
group's session."""
LEAVE_TIMEOUT: Final = 5.0
RETRY_BACKOFF: Final = 0.5
"""Seconds after which work that failed is begun again; twice as long each time that it fails."""
MAX_RETRY_BACKOFF: Final = 8.0
FENCED_BACKOFF: Final = 2.0
"""Seconds. Somebody else works for the partition: by then this process has heard whether it is still its own."""
STABLE_AFTER: Final = 30.0
"""Seconds after which work that failed is begun again as if it were the first time."""

STALLS_AFTER: Final = 60.0
"""Seconds without progress after which work makes the process not ready; to fence who worked before takes up to 30."""

PartitionWork = Callable[[int, Part], Awaitable[None]]
"""Works for a partition, until it is cancelled, and tells of its turns."""


class PartitionOwnership(ConsumerRebalanceListener):
    """Works for the partitions that this process owns: `async with Ownership(…) as ownership`.

    aiokafka is eager: each rebalance revokes everything, and all is assigned anew. Work is cancelled and awaited when
    its partition is revoked, so that whoever owns it next seldom has to shut anybody out; work that fails is begun
    again, as long as the partition is ours. Work that fails by a fault of its own, each time soon after it was begun,
    makes the process not ready, and then ends it.

    Args:
        logs: How the broker is reached, and who is told how it goes.
        settings: Those of the process: a named instance keeps its place when it is restarted.
        topic: Whose partitions are owned.
        group: The group that shares them out.
        work: What to do for a partition.
    """

    def __init__(self, logs: LogAccess, settings: MeshSettings, topic: str, group: str, work: PartitionWork) -> None:
        self.assigned = asyncio.Event()
        """Set while the group has told this process what it owns, be it nothing."""
        self._logs = logs
        self._settings = settings
        self._topic = topic
        self._group = group
        self._work = work
        self._consumer: AIOKafkaConsumer | None = None
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._parts: dict[int, Part] = {}
        self._part: Part | None = None
        self._member_task: asyncio.Task[None] | None = None
        self._rejoin = False

    @property
    def partitions(self) -> frozenset[int]:
        """The partitions that are worked for now."""
        return frozenset(number for number, task in self._tasks.items() if not task.cancelling())

    async def __aenter__(self) -> Self:
        """Begin to take part in the group."""
        self._part = self._logs.liveness.part(f"member of {self._group}")
        self._member_task = self._part.run(self._run_member(self._part))
        self._logs.identities.watch(self._topic, self._recreated)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End all work, then leave the group."""
        self._logs.identities.unwatch(self._topic, self._recreated)
        if self._part is not None:
            self._part.close()
        if self._member_task is not None:
            self._member_task.cancel()
            await asyncio.wait({self._member_task})

    # -- the group ------------------------------------------------------------------------------------------------

    def _recreated(self, _: str) -> None:
        self._rejoin = True

    async def _run_member(self, part: Part) -> None:
        """Be a member; when that ends, whatever the reason, be one again."""
        loop, sound = asyncio.get_running_loop(), part.progressed
        while True:
            began = loop.time()
            try:
                await self._join(part)
            except KafkaError as error:
                log.warning("not in group %s, trying again: %s", self._group, error)
                part.wait(str(error))
            except Exception as error:
                log.exception("not in group %s, trying again", self._group)
                sound = part.progressed if loop.time() - began > STABLE_AFTER else sound
                part.stumble(error, since=sound)
            finally:
                self.assigned.clear()
                await self._cancel(self._tasks.keys())
            if not self._rejoin:
                await asyncio.sleep(MAX_RETRY_BACKOFF)

    async def _join(self, part: Part) -> None:
        """Be a member, until the topic turns out to be another one: who shares it out may have seen it missing."""
        self._rejoin = False
        arguments: dict[str, Any] = self._logs.connection.client_options() | group_config(self._settings)
        self._consumer = consumer = AIOKafkaConsumer(**arguments, group_id=self._group, enable_auto_commit=False)
        consumer.subscribe([self._topic], listener=self)
        try:
            await consumer.start()
            while not self._rejoin:
                await consumer.getmany(NO_PARTITION)  # counts as a poll, and tells what went wrong
                part.progress()
                await asyncio.sleep(POLL_INTERVAL)
        finally:
            await self._cancel(self._tasks.keys())  # before the group gives them to others
            await _stop_consumer(consumer)

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        """End the work; the group waits for it, so that the next owner begins when this one has ended."""
        self.assigned.clear()
        await self._cancel({partition.partition for partition in revoked})

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        """Begin the work."""
        if self._consumer is not None:
            self._consumer.pause(*assigned)
        numbers = sorted(partition.partition for partition in assigned)
        log.info("partitions of %s that are ours: %s", self._topic, ", ".join(map(str, numbers)) or "none")
        for number in numbers:
            self._parts[number] = part = self._logs.liveness.part(
                f"work for {self._topic}/{number}", stalls_after=STALLS_AFTER
            )
            self._tasks[number] = part.run(self._supervise(number, part, self._tasks.get(number)))
        self.assigned.set()

    # -- the work -------------------------------------------------------------------------------------------------

    async def _cancel(self, numbers: Iterable[int]) -> None:
        tasks = {self._tasks[number] for number in numbers if number in self._tasks}
        for number in tuple(numbers):
            if (part := self._parts.pop(number, None)) is not None:
                part.close()
        for task in tasks:
            task.cancel()
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=CANCEL_TIMEOUT)
        if late:
            log.warning(
                "work for %d partitions of %s does not end: the next owner shuts it out", len(late), self._topic
            )
        self._tasks = {number: task for number, task in self._tasks.items() if not task.done()}

    async def _supervise(self, number: int, part: Part, before: asyncio.Task[None] | None) -> None:
        if before is not None:  # it was to end and was slow: two of one process would shut each other out
            await asyncio.wait({before})
        loop, pause = asyncio.get_running_loop(), RETRY_BACKOFF
        sound = part.progressed
        while True:
            began = loop.time()
            try:
                await self._work(number, part)
            except RetryableError as error:
                log.warning(
                    "partition %d of %s, to be taken up again if it is still ours: %s", number, self._topic, error
                )
                part.wait(str(error))
                await asyncio.sleep(FENCED_BACKOFF)
                continue
            except PoiseError as error:
                log.warning("partition %d of %s, to be taken up again: %s", number, self._topic, error)
                part.wait(str(error))
            except Exception as error:
                log.exception("partition %d of %s, to be taken up again", number, self._topic)
                sound = part.progressed if loop.time() - began > STABLE_AFTER else sound
                part.stumble(error, since=sound)
            pause = RETRY_BACKOFF if loop.time() - began > STABLE_AFTER else min(2 * pause, MAX_RETRY_BACKOFF)
            await asyncio.sleep(pause)


async def _stop_consumer(consumer: AIOKafkaConsumer) -> None:
    try:
        async with asyncio.timeout(LEAVE_TIMEOUT):
            await consumer.stop()
    except (KafkaError, TimeoutError) as error:
        log.warning("left a group without the broker: %s", words_of(error))
    except asyncio.CancelledError:  # aiokafka lets one of its own out when the broker is gone
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
