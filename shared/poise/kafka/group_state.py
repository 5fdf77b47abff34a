"""Group state: a group's commits and topic ids of some partitions, and the trackers that resume from them."""

import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field

from aiokafka import TopicPartition

from poise.kafka.offset_metadata import decode
from poise.kafka.offset_tracker import Commit, OffsetTracker

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class GroupState:
    """What the broker knows of some partitions."""

    committed: Mapping[TopicPartition, Commit] = field(default_factory=dict)
    """The group's commits; partitions without one are absent."""
    topic_ids: Mapping[str, str] = field(default_factory=dict)
    """Kafka's id of each topic that exists."""


FetchGroupState = Callable[[Collection[TopicPartition]], Awaitable[GroupState]]
"""Fetches the state of partitions from the broker."""


async def no_group_state(_partitions: Collection[TopicPartition]) -> GroupState:
    """Fetch nothing: messages finished above a committed offset are handled again after a restart."""
    return GroupState()


def resume_tracker(partition: TopicPartition, tracker: OffsetTracker | None, state: GroupState) -> OffsetTracker:
    """Return the tracker of an assigned partition: the existing one if it is still valid, or a new one.

    Offsets of a topic that was deleted and recreated, tracked or committed, are meaningless in the new topic.

    Args:
        partition: The partition.
        tracker: The existing tracker; None = this member did not own the partition.
        state: What the broker knows.
    """
    topic_id = state.topic_ids.get(partition.topic, "")
    commit = state.committed.get(partition)
    if commit is not None and _ids_differ(commit.topic_id, topic_id):
        log.warning("%s was recreated since its offset %d was committed: starting over", partition, commit.offset)
        commit = None
    if tracker is not None and _ids_differ(tracker.topic_id, topic_id):
        tracker.log_deleted = True
        tracker = None
    if tracker is None or (commit is not None and _is_behind(tracker, commit)):
        return OffsetTracker(topic_id=topic_id) if commit is None else _new_tracker(partition, commit, topic_id)
    tracker.topic_id = topic_id or tracker.topic_id
    return tracker


def _ids_differ(known: str, found: str) -> bool:
    return bool(known and found and known != found)


def _is_behind(tracker: OffsetTracker, commit: Commit) -> bool:
    return tracker.watermark is None or tracker.watermark < commit.offset


def _new_tracker(partition: TopicPartition, commit: Commit, topic_id: str) -> OffsetTracker:
    topic_id = topic_id or commit.topic_id
    try:
        return OffsetTracker(commit.offset, decode(commit.offset, commit.finished), topic_id)
    except ValueError as error:
        log.warning("%s: %s; messages finished above offset %d are handled again", partition, error, commit.offset)
        return OffsetTracker(commit.offset, topic_id=topic_id)
