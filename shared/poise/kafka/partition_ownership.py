"""Partition ownership: a consumer group assigns partitions to processes, which work on them.

The member of the group reads no records: the work opens its own reader.

A group assigns an owner within seconds, not at once: a member that was away, or learns late of a rebalance, still works
on a partition that another one owns already. Work therefore also needs a fence where it writes: a
`TransactionalProducer` whose transactional id is derived from the partition.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from types import TracebackType
from typing import Any, Final, Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.errors import KafkaError

from poise.kafka.consumer import NO_PARTITION
from poise.kafka.group_config import group_config
from poise.kafka.log_reader import LogAccess
from poise.kafka.patches import static_membership
from poise.kafka.retriable import is_retriable
from poise.kafka.shielded import shielded_stop
from poise.kafka.transactions import ProducerFencedError
from poise.liveness import Component
from poise.settings import MeshSettings
from poise.text.error_text import error_message

log = logging.getLogger(__name__)

POLL_INTERVAL: Final = 0.2
"""Seconds. A member that does not poll is removed from its group."""
CANCEL_TIMEOUT: Final = 5.0
"""Seconds for work to end when its partition is revoked. No heartbeats are sent meanwhile, so it must be well below the
session timeout."""
LEAVE_TIMEOUT: Final = 5.0
RETRY_BACKOFF: Final = 0.5
"""Seconds until work is restarted that ran for `STABLE_AFTER`; each earlier failure doubles it, also the first."""
MAX_RETRY_BACKOFF: Final = 8.0
"""The maximum of that in seconds; a process that lost its membership always waits so long."""
FENCED_BACKOFF: Final = 2.0
"""Seconds to wait after being fenced: enough to learn whether the partition is still assigned to this process."""
STABLE_AFTER: Final = 30.0
"""Seconds of work after which a failure counts as the first one again."""

STALLS_AFTER: Final = 60.0
"""Seconds without progress after which the process is not ready. Fencing an earlier owner takes up to 30."""

PartitionWork = Callable[[int, Component], Awaitable[None]]
"""Works on a partition until cancelled, and reports its progress."""


class PartitionOwnership(ConsumerRebalanceListener):
    """Works on the partitions that this process owns: `async with PartitionOwnership(…) as ownership`.

    aiokafka is eager: each rebalance revokes everything, then assigns again. When a partition is revoked, its work is
    cancelled and awaited, so that the next owner seldom has to fence it.

    Errors follow the rule of `LogReader`. A retriable one makes the process not ready, and what failed is retried with
    backoff: the process joins the group again, or the work is restarted while the partition is owned. Any other error
    ends the process.

    Args:
        access: How to reach the broker, and where to report progress.
        settings: The settings of the process: an instance with a name is a static member.
        topic: The topic whose partitions are owned.
        group: The consumer group.
        work: Works on one partition.
    """

    def __init__(self, access: LogAccess, settings: MeshSettings, topic: str, group: str, work: PartitionWork) -> None:
        self.assigned = asyncio.Event()
        """Set while the group has assigned partitions to this process, even if none."""
        self._access = access
        self._settings = settings
        self._topic = topic
        self._group = group
        self._work = work
        self._consumer: AIOKafkaConsumer | None = None
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._components: dict[int, Component] = {}
        self._component: Component | None = None
        self._member_task: asyncio.Task[None] | None = None
        self._rejoin = False

    @property
    def partitions(self) -> frozenset[int]:
        """The partitions that are being worked on."""
        return frozenset(number for number, task in self._tasks.items() if not task.cancelling())

    async def __aenter__(self) -> Self:
        """Start to join the group."""
        self._component = self._access.liveness.component(f"member of {self._group}")
        self._member_task = self._component.run(self._run_member(self._component))
        self._access.identities.watch(self._topic, self._recreated)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End all work, then leave the group."""
        self._access.identities.unwatch(self._topic, self._recreated)
        if self._component is not None:
            self._component.close()
        if self._member_task is not None:
            self._member_task.cancel()
            await asyncio.wait({self._member_task})

    # -- the group ------------------------------------------------------------------------------------------------

    def _recreated(self, _: str) -> None:
        self._rejoin = True

    async def _run_member(self, component: Component) -> None:
        """Join the group, and again whenever membership ends."""
        while True:
            try:
                await self._join(component)
            except Exception as error:
                if not is_retriable(error):
                    raise
                log.warning("not in group %s, trying again: %s", self._group, error_message(error))
                component.report_blocked(error_message(error))
            finally:
                self.assigned.clear()
                await self._cancel(self._tasks.keys())
            if not self._rejoin:
                await asyncio.sleep(MAX_RETRY_BACKOFF)

    async def _join(self, component: Component) -> None:
        """Stay in the group until the topic is recreated: the leader may have assigned nothing while it was missing."""
        self._rejoin = False
        options: dict[str, Any] = self._access.connection.client_options() | group_config(self._settings)
        self._consumer = consumer = AIOKafkaConsumer(**options, group_id=self._group, enable_auto_commit=False)
        static_membership.install(consumer, partial(self._fenced, component, consumer))
        consumer.subscribe([self._topic], listener=self)
        try:
            await consumer.start()
            while not self._rejoin:
                await consumer.getmany(NO_PARTITION)  # counts as a poll, and raises the client's errors
                component.progress()
                await asyncio.sleep(POLL_INTERVAL)
        finally:
            await self._cancel(self._tasks.keys())  # before the group assigns the partitions to others
            await _stop_consumer(consumer)

    def _fenced(self, component: Component, consumer: AIOKafkaConsumer, instance: str) -> None:
        """End the process: another one has joined the group under the same instance name."""
        if consumer is self._consumer:  # else this process itself has joined again
            component.fail(static_membership.fenced_error(instance))

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        """Cancel the work. The group waits, so the next owner starts after this work has ended."""
        self.assigned.clear()
        await self._cancel({partition.partition for partition in revoked})

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        """Start the work."""
        if self._consumer is not None:
            self._consumer.pause(*assigned)
        numbers = sorted(partition.partition for partition in assigned)
        log.info("owned partitions of %s: %s", self._topic, ", ".join(map(str, numbers)) or "none")
        for number in numbers:
            self._components[number] = component = self._access.liveness.component(
                f"work for {self._topic}/{number}", stalls_after=STALLS_AFTER
            )
            self._tasks[number] = component.run(self._supervise(number, component, self._tasks.get(number)))
        self.assigned.set()

    # -- the work -------------------------------------------------------------------------------------------------

    async def _cancel(self, numbers: Iterable[int]) -> None:
        tasks = {self._tasks[number] for number in numbers if number in self._tasks}
        for number in tuple(numbers):
            if (component := self._components.pop(number, None)) is not None:
                component.close()
        for task in tasks:
            task.cancel()
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=CANCEL_TIMEOUT)
        if late:
            log.warning(
                "work on %d partitions of %s does not end: the next owner will fence it", len(late), self._topic
            )
        self._tasks = {number: task for number, task in self._tasks.items() if not task.done()}

    async def _supervise(self, number: int, component: Component, before: asyncio.Task[None] | None) -> None:
        if before is not None:  # cancelled, but slow: two workers of one process would fence each other
            await asyncio.wait({before})
        loop, pause = asyncio.get_running_loop(), RETRY_BACKOFF
        while True:
            began = loop.time()
            try:
                await self._work(number, component)
            except ProducerFencedError as error:
                log.warning("partition %d of %s, to be restarted if it is still owned: %s", number, self._topic, error)
                component.report_blocked(str(error))
                await asyncio.sleep(FENCED_BACKOFF)
                continue
            except Exception as error:
                if not is_retriable(error):
                    raise
                log.warning("partition %d of %s, to be restarted: %s", number, self._topic, error_message(error))
                component.report_blocked(error_message(error))
            pause = RETRY_BACKOFF if loop.time() - began > STABLE_AFTER else min(2 * pause, MAX_RETRY_BACKOFF)
            await asyncio.sleep(pause)


async def _stop_consumer(consumer: AIOKafkaConsumer) -> None:
    try:
        async with asyncio.timeout(LEAVE_TIMEOUT):
            await shielded_stop(consumer.stop())
    except (KafkaError, TimeoutError) as error:
        log.warning("left a group without the broker: %s", error_message(error))
