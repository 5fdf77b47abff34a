"""Offsets of one member of a consumer group: tracked by partition, committed, and resumed after a rebalance.

The consumer is positioned explicitly each time that partitions are assigned. By itself, aiokafka would answer an offset
that is out of range by silently starting at the beginning of the log.
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
from poise.text.error_text import error_message

log = logging.getLogger(__name__)

COMMIT_INTERVAL: Final = 0.5
COMMIT_RETRY_BACKOFF: Final = 0.1
FINAL_COMMIT_TIMEOUT: Final = 3.0
GROUP_STATE_TIMEOUT: Final = 3.0
"""Seconds. Must be shorter than the session timeout: no heartbeats are sent meanwhile."""


class GroupOffsets:
    """The offset trackers of a member's partitions, their commits, and the positions to read from.

    Args:
        fetch_state: Fetches the group's commits of partitions.
        identities: Notices recreated topics; None = they are not noticed while they are read.
    """

    def __init__(self, fetch_state: FetchGroupState, identities: TopicIdentities | None = None) -> None:
        self._fetch_state = fetch_state
        self._identities = identities
        self._consumer: AIOKafkaConsumer | None = None
        self._trackers: dict[TopicPartition, OffsetTracker] = {}
        self._watchers: dict[str, Callable[[str], None]] = {}
        """By topic: the callback for when it is recreated."""
        self._initial_offsets: dict[TopicPartition, int] = {}
        """Positions of partitions that were assigned before `start`."""
        self._lock = asyncio.Lock()
        self._commit_allowed = True
        self._commit_failing = False
        """Whether the last commit failed: only the first failure in a row is logged."""

    def start(self, consumer: AIOKafkaConsumer) -> None:
        """Commit and seek through this consumer from now on."""
        self._consumer = consumer
        for partition, offset in self._initial_offsets.items():
            self.seek(partition, offset)

    def stop(self) -> None:
        """Stop watching for recreated topics."""
        if self._identities is not None:
            for topic, watcher in self._watchers.items():
                self._identities.unwatch(topic, watcher)

    def tracker(self, partition: TopicPartition) -> OffsetTracker:
        """Return the tracker of a partition."""
        return self._trackers.setdefault(partition, OffsetTracker())

    def metadata_full(self, partition: TopicPartition) -> bool:
        """Return whether the finished offsets above the watermark do not fit a commit: then take no more messages."""
        tracker = self._trackers.get(partition)
        return tracker is not None and tracker.metadata_full

    def is_current(self, partition: TopicPartition, tracker: OffsetTracker) -> bool:
        """Return whether this member must handle a tracker's messages: it owns the partition, or the log is deleted."""
        return tracker.log_deleted or self._trackers.get(partition) is tracker

    # -- committing -----------------------------------------------------------------------------------------------

    async def commit_regularly(self) -> None:
        """Commit finished offsets twice a second."""
        while True:
            await asyncio.sleep(COMMIT_INTERVAL)
            await self.commit()

    async def commit_all(self) -> None:
        """Commit finished offsets, with retries, for a while. The group must not change meanwhile."""
        try:
            async with asyncio.timeout(FINAL_COMMIT_TIMEOUT):
                while not await self.commit():  # noqa: ASYNC110 - only the coordinator knows when it is back
                    await asyncio.sleep(COMMIT_RETRY_BACKOFF)
        except TimeoutError:
            log.warning(
                "the last commit timed out: messages that finished after the previous commit will be handled again"
            )

    async def commit(self) -> bool:
        """Commit finished offsets in one attempt; return False if a retry may succeed."""
        async with self._lock:
            if self._consumer is None or not self._commit_allowed:
                return True
            trackers = dict(self._trackers)
            commits = {p: commit for p, tracker in trackers.items() if (commit := tracker.to_commit()) is not None}
            if not commits:
                return True
            try:
                accepted = await commit_once(self._consumer, commits)
            except GroupChangedErrors as error:
                log.info("commit refused because the group has changed: %s", error)
                return True
            except KafkaError as error:
                if not self._commit_failing:
                    log.warning("commit failed, the next accepted one includes it: %s", error)
                self._commit_failing = True
                return False
            self._commit_failing = False
            for partition in accepted & commits.keys():
                trackers[partition].mark_committed(commits[partition])
            return True

    # -- rebalances -----------------------------------------------------------------------------------------------

    async def revoked(self, revoked: Collection[TopicPartition]) -> None:
        """Commit finished offsets, then nothing until the group's commits are known again.

        A commit that is still in progress afterwards belongs to the old generation and is refused. One that started
        later would belong to the new generation and be accepted: if another member owned the partition in between, it
        would rewind the partition.
        """
        if revoked:
            await self.commit_all()
        self._commit_allowed = False

    async def assigned(self, assigned: Collection[TopicPartition]) -> None:
        """Keep the trackers of partitions that came back; follow the group where it is further.

        Another member may have owned a partition that came back (this one exceeded its session timeout). If the group
        has committed more than is finished here, tracking restarts from there, because a commit of the old tracker
        would rewind the partition.
        """
        before, state = self._trackers, await self._state({*assigned, *self._trackers})
        if state is None:
            # Without the group's commits, a partition that another member owned looks like one that stayed here: all
            # trackers restart, at the group's offsets.
            self._trackers = {}
        else:
            self._trackers = {
                partition: resume_tracker(partition, before.get(partition), state) for partition in assigned
            }
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
        except Exception as error:  # noqa: BLE001 - no error may pause a partition for ever
            topics = ", ".join(sorted({partition.topic for partition in partitions}))
            why = error_message(error)
            log.warning("%s: finished offsets above the committed ones are unknown, handled again: %s", topics, why)
            return None

    # -- replaced logs --------------------------------------------------------------------------------------------

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Set the position of a partition, if this member still owns it."""
        if self._consumer is None:
            self._initial_offsets[partition] = offset
        elif partition in self._consumer.assignment():
            self._consumer.seek(partition, offset)

    async def reset_position(self, partition: TopicPartition, offset: int) -> None:
        """Set a partition's position to where its log begins, after an offset turned out to be out of range.

        Raises:
            KafkaError: The broker does not return the beginning offset.
        """
        if self._consumer is None:
            return
        start = (await self._consumer.beginning_offsets([partition]))[partition]
        where = f"{partition.topic}/{partition.partition}"
        if offset < start:
            log.warning("%s is read from offset %d on: records from %d on were deleted unread", where, start, offset)
        else:
            log.warning("%s is read from its beginning, because it ends before offset %d, already read", where, offset)
            state = await self._state({partition})
            self._restart_tracker(partition, "" if state is None else state.topic_ids.get(partition.topic, ""))
        self.seek(partition, start)

    def _recreated(self, topic: str, topic_id: str) -> None:
        """Restart the partitions of a topic that was deleted and created again."""
        partitions = [p for p, tracker in self._trackers.items() if p.topic == topic and tracker.topic_id != topic_id]
        if partitions:
            log.warning("%s is read from its beginning, because it was recreated", topic)
        for partition in partitions:
            self._restart_tracker(partition, topic_id)
            self.seek(partition, 0)
        if self._consumer is not None:
            self._consumer._client.force_metadata_update()  # noqa: SLF001 - else the new leaders are known only later

    def _restart_tracker(self, partition: TopicPartition, topic_id: str) -> None:
        self.tracker(partition).log_deleted = True
        self._trackers[partition] = OffsetTracker(topic_id=topic_id)

    def outage(self) -> str | None:
        """Return why no messages arrive, if that is known."""
        assigned = self._consumer.assignment() if self._consumer is not None else frozenset()
        for topic in self._watchers:
            found = self._identities.latest(topic) if self._identities else None
            if found is None:
                return f"topic {topic} does not exist"
            if lacking := found.leaderless & {p.partition for p in assigned if p.topic == topic}:
                return f"{topic} has no leader for {sorted(lacking)}"
        return None
