"""Group offsets: how far one member of a group has come in each of its partitions, committed, read back, and read on.

Kafka's client is told where to read, each time that partitions are assigned. By itself it would take a place that the
broker does not have for a reason to begin at the start of the log, and tell nobody.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from poise.kafka.group_state import FetchGroupState, GroupState, resume_tracker
from poise.kafka.offset_commits import GroupChangedErrors
from poise.kafka.offset_tracker import OffsetTracker
from poise.kafka.patches.commit_once import commit_once
from poise.kafka.topic_identities import TopicIdentities

log = logging.getLogger(__name__)

COMMIT_INTERVAL: Final = 0.5
COMMIT_RETRY_BACKOFF: Final = 0.1
FINAL_COMMIT_TIMEOUT: Final = 3.0
GROUP_STATE_TIMEOUT: Final = 3.0
"""Seconds; longer than the group's session it must not take, for meanwhile no heartbeat is sent."""


class GroupOffsets:
    """The trackers of a member's partitions, what is committed of them, and where it reads on.

    Args:
        fetch_state: Reads what the broker knows of partitions.
        identities: Notices that a topic was deleted and made again; None = nobody does while it is read.
    """

    def __init__(self, fetch_state: FetchGroupState, identities: TopicIdentities | None = None) -> None:
        self._fetch_state = fetch_state
        self._identities = identities
        self._consumer: AIOKafkaConsumer | None = None
        self._trackers: dict[TopicPartition, OffsetTracker] = {}
        self._watchers: dict[str, Callable[[str], None]] = {}
        """By topic: what is told when it is made again."""
        self._initial_offsets: dict[TopicPartition, int] = {}
        """Where to read on, of partitions that were assigned before there was a consumer to tell."""
        self._lock = asyncio.Lock()
        self._commit_allowed = True
        self._commit_failing = False
        """Whether the last commit failed: it is said once."""

    def start(self, consumer: AIOKafkaConsumer) -> None:
        """Commit and read on by this consumer."""
        self._consumer = consumer
        for partition, offset in self._initial_offsets.items():
            self.seek(partition, offset)

    def stop(self) -> None:
        """Hear of topics that are made again no more."""
        if self._identities is not None:
            for topic, watcher in self._watchers.items():
                self._identities.unwatch(topic, watcher)

    def tracker(self, partition: TopicPartition) -> OffsetTracker:
        """The tracker of a partition."""
        return self._trackers.setdefault(partition, OffsetTracker())

    def metadata_full(self, partition: TopicPartition) -> bool:
        """Whether what is finished above the watermark fits no commit: no more should be taken."""
        tracker = self._trackers.get(partition)
        return tracker is not None and tracker.metadata_full

    def is_current(self, partition: TopicPartition, tracker: OffsetTracker) -> bool:
        """Whether what a tracker follows is this member's to handle: its partition is, or its log is nowhere else."""
        return tracker.log_deleted or self._trackers.get(partition) is tracker

    # -- committing -----------------------------------------------------------------------------------------------

    async def commit_regularly(self) -> None:
        """Commit what is finished, twice a second."""
        while True:
            await asyncio.sleep(COMMIT_INTERVAL)
            await self.commit()

    async def commit_all(self) -> None:
        """Commit what is finished, as often as it takes, for a while; the group must be the same for as long."""
        try:
            async with asyncio.timeout(FINAL_COMMIT_TIMEOUT):
                while not await self.commit():  # noqa: ASYNC110 - only the coordinator knows when it is back
                    await asyncio.sleep(COMMIT_RETRY_BACKOFF)
        except TimeoutError:
            log.warning("the last commit took too long and was given up: what is finished since is done again")

    async def commit(self) -> bool:
        """Commit what is finished, in one attempt; returns whether another one could bring no more."""
        async with self._lock:
            if self._consumer is None or not self._commit_allowed:
                return True
            trackers = dict(self._trackers)
            commits = {at: commit for at, tracker in trackers.items() if (commit := tracker.to_commit()) is not None}
            if not commits:
                return True
            try:
                accepted = await commit_once(self._consumer, commits)
            except GroupChangedErrors as error:
                log.info("commit refused, the partitions have moved: %s", error)
                return True
            except KafkaError as error:
                if not self._commit_failing:
                    log.warning("commit failed, the next one that is accepted includes it: %s", error)
                self._commit_failing = True
                return False
            self._commit_failing = False
            for partition in accepted & commits.keys():
                trackers[partition].mark_committed(commits[partition])
            return True

    # -- rebalances -----------------------------------------------------------------------------------------------

    async def revoked(self, revoked: Collection[TopicPartition]) -> None:
        """Commit what is finished, then no more until it is known how far the group has come.

        A commit that is still under way afterwards is of the old generation: refused. One that began later would be of
        the new one: accepted, and if the partition was another member's in between, it would be taken back.
        """
        if revoked:
            await self.commit_all()
        self._commit_allowed = False

    async def assigned(self, assigned: Collection[TopicPartition]) -> None:
        """Keep the trackers of partitions that came back; follow the group where it has come further without us.

        A partition that came back may have been another member's in between (this one was away for longer than its
        session): when the group has committed more than is finished here, it begins from there, or a commit of ours
        would take it back.
        """
        before, state = self._trackers, await self._state({*assigned, *self._trackers})
        if state is None:
            # Without it a partition that was away cannot be told from one that was not: all of them begin anew, where
            # Kafka's client finds that the group is.
            self._trackers = {}
        else:
            self._trackers = {at: resume_tracker(at, before.get(at), state) for at in assigned}
            for partition, tracker in before.items():
                tracker.log_deleted |= partition.topic not in state.topic_ids and bool(tracker.topic_id)
            self._watch(state.topic_ids)
            for partition in assigned if state.topic_ids else ():
                self.seek(partition, self._trackers[partition].position or 0)
        self._commit_allowed = True

    def _watch(self, topic_ids: Mapping[str, str]) -> None:
        if self._identities is not None:
            for topic, topic_id in topic_ids.items():
                watcher = self._watchers.setdefault(topic, partial(self._recreated, topic))
                self._identities.watch(topic, watcher, known=topic_id)

    async def _state(self, partitions: Collection[TopicPartition]) -> GroupState | None:
        if not partitions:
            return GroupState()
        try:
            async with asyncio.timeout(GROUP_STATE_TIMEOUT):
                return await self._fetch_state(partitions)
        except Exception as error:  # noqa: BLE001 - whatever it is, no partition may rest for ever
            log.warning("what is finished above the committed offsets is not known and is done again: %r", error)
            return None

    # -- logs that are not what they were -------------------------------------------------------------------------

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Read on at an offset, if the partition is still this member's."""
        if self._consumer is None:
            self._initial_offsets[partition] = offset
        elif partition in self._consumer.assignment():
            self._consumer.seek(partition, offset)

    async def reset_position(self, partition: TopicPartition, offset: int) -> None:
        """Read on where there is something, after the broker said that there is nothing at an offset.

        Raises:
            KafkaError: The broker does not say where the log begins.
        """
        if self._consumer is None:
            return
        start = (await self._consumer.beginning_offsets([partition]))[partition]
        where = f"{partition.topic}/{partition.partition}"
        if offset < start:
            log.warning("%s is read from offset %d on: what stood from %d on was deleted unread", where, start, offset)
        else:
            log.warning("%s is read from its beginning, for it ends before offset %d, which was reached", where, offset)
            state = await self._state({partition})
            self._restart_tracker(partition, "" if state is None else state.topic_ids.get(partition.topic, ""))
        self.seek(partition, start)

    def _recreated(self, topic: str, topic_id: str) -> None:
        """Start over in a topic that was deleted and made again."""
        partitions = [at for at, of in self._trackers.items() if at.topic == topic and of.topic_id != topic_id]
        if partitions:
            log.warning("%s is read from its beginning, for it was made again", topic)
        for partition in partitions:
            self._restart_tracker(partition, topic_id)
            self.seek(partition, 0)
        if self._consumer is not None:
            self._consumer._client.force_metadata_update()  # noqa: SLF001 - else it knows the new leaders in a while

    def _restart_tracker(self, partition: TopicPartition, topic_id: str) -> None:
        self.tracker(partition).log_deleted = True
        self._trackers[partition] = OffsetTracker(topic_id=topic_id)

    def blocker(self) -> str | None:
        """What keeps messages from coming, where that is known."""
        assigned = self._consumer.assignment() if self._consumer is not None else frozenset()
        for topic in self._watchers:
            found = self._identities.latest(topic) if self._identities else None
            if found is None:
                return f"topic {topic} does not exist"
            if lacking := found.leaderless & {at.partition for at in assigned if at.topic == topic}:
                return f"{topic} has no leader for {sorted(lacking)}"
        return None
