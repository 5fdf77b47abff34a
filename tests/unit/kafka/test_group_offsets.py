"""Where a member of a group resumes: in the same log, in a recreated one, in a truncated one."""

from collections.abc import Collection, Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition

from poise.kafka.group_offsets import GroupOffsets
from poise.kafka.group_state import GroupState, resume_tracker
from poise.kafka.offset_commits import decode_commit, encode_commit
from poise.kafka.offset_tracker import Commit, OffsetTracker
from poise.kafka.topic_identities import TopicIdentities, TopicMetadata

AT = TopicPartition("topic", 0)
OLD, NEW = "11111111-0000-4000-8000-000000000000", "22222222-0000-4000-8000-000000000000"


def state(topic_id: str | None, committed: Commit | None = None) -> GroupState:
    return GroupState({} if committed is None else {AT: committed}, {} if topic_id is None else {AT.topic: topic_id})


def tracker(topic_id: str, delivered: int) -> OffsetTracker:
    made = OffsetTracker(0, topic_id=topic_id)
    for offset in range(delivered):
        made.deliver(offset)
        made.finish(offset)
    return made


@pytest.mark.parametrize(
    ("before", "found", "position"),
    [
        (None, state(NEW), None),
        (None, state(NEW, Commit(7, "", NEW)), 7),
        (None, state(NEW, Commit(7)), 7),  # committed by a version of Poise that did not write the topic id
        (None, state(NEW, Commit(7, "", OLD)), None),
        (None, state(None, Commit(7, "", OLD)), 7),  # the topic id is unknown
        (tracker(NEW, 3), state(NEW), 3),
        (tracker(NEW, 3), state(NEW, Commit(2, "", NEW)), 3),
        (tracker(NEW, 3), state(NEW, Commit(7, "", NEW)), 7),
        (tracker(NEW, 3), state(NEW, Commit(7, "", OLD)), 3),
        (tracker(OLD, 3), state(NEW), None),
        (tracker(OLD, 3), state(NEW, Commit(7, "", OLD)), None),
        (tracker(OLD, 3), state(NEW, Commit(1, "", NEW)), 1),
        (tracker("", 3), state(NEW), 3),
        (tracker(OLD, 3), state(None), 3),
    ],
)
def test_resume_position(before: OffsetTracker | None, found: GroupState, position: int | None) -> None:
    after = resume_tracker(AT, before, found)
    assert after.position == position
    if before is not None:
        assert before.log_deleted == (before.topic_id == OLD and found.topic_ids.get(AT.topic) == NEW)


@pytest.mark.parametrize("commit", [Commit(7, "p1bAQ", NEW), Commit(7, "", NEW), Commit(7, "p1bAQ"), Commit(7)])
def test_a_commit_is_decoded(commit: Commit) -> None:
    assert decode_commit(commit.offset, encode_commit(commit)) == commit


def test_foreign_metadata_has_no_topic_id() -> None:
    assert decode_commit(7, "by hand: why not") == Commit(7, "by hand: why not")


class OnePartitionConsumer:
    """A consumer of one partition, with aiokafka's interface."""

    def __init__(self, start: int = 0) -> None:
        self.position: int | None = None
        self._start = start
        self._client = SimpleNamespace(force_metadata_update=lambda: None)

    def assignment(self) -> frozenset[TopicPartition]:
        return frozenset({AT})

    def seek(self, partition: TopicPartition, offset: int) -> None:
        assert partition == AT
        self.position = offset

    async def beginning_offsets(self, _partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        return {AT: self._start}


async def reading(client: OnePartitionConsumer, identities: TopicIdentities, topic_id: str) -> GroupOffsets:
    """Return the offsets of a member that has read up to offset 5 and has not finished offset 3."""

    async def fetch_state(_partitions: Collection[TopicPartition]) -> GroupState:
        return state(topic_id)

    offsets = GroupOffsets(fetch_state, identities)
    consumer: Any = client
    offsets.start(consumer)
    await offsets.assigned({AT})
    for offset in range(5):
        offsets.tracker(AT).deliver(offset)
        if offset != 3:
            offsets.tracker(AT).finish(offset)
    return offsets


async def test_a_recreated_topic_is_read_from_its_beginning() -> None:
    client, identities = OnePartitionConsumer(), TopicIdentities()
    offsets = await reading(client, identities, OLD)
    old, client.position = offsets.tracker(AT), 5
    for _ in range(3):
        identities.update({AT.topic: TopicMetadata(OLD, 1)})
    assert client.position == 5
    for _ in range(3):
        identities.update({AT.topic: TopicMetadata(NEW, 1)})
    assert client.position == 0
    assert offsets.tracker(AT).deliver(0), "the message is not the one that was handled"
    assert offsets.tracker(AT).to_commit() == Commit(0, "", NEW)
    old.finish(3)
    assert offsets.is_current(AT, old), (
        "queued messages of the old topic are handled, because nothing delivers them again"
    )


async def test_after_stop_a_recreated_topic_is_ignored() -> None:
    client, identities = OnePartitionConsumer(), TopicIdentities()
    offsets = await reading(client, identities, OLD)
    client.position = 5
    offsets.stop()
    identities.update({AT.topic: TopicMetadata(NEW, 1)})
    assert client.position == 5


@pytest.mark.parametrize(("start", "position", "kept"), [(0, 0, False), (4, 4, False), (9, 9, True)])
async def test_an_offset_out_of_range_is_reset(start: int, position: int, *, kept: bool) -> None:
    """Check that beyond the end all is read again, and before the beginning reading continues at the beginning."""
    client = OnePartitionConsumer(start)
    offsets = await reading(client, TopicIdentities(), OLD)
    before = offsets.tracker(AT)
    await offsets.reset_position(AT, 5)
    assert client.position == position
    assert (offsets.tracker(AT) is before) == kept


async def test_the_reason_why_no_messages_arrive() -> None:
    identities = TopicIdentities()
    offsets = await reading(OnePartitionConsumer(), identities, OLD)
    assert offsets.outage() == "topic topic does not exist"
    identities.update({AT.topic: TopicMetadata(OLD, 1, frozenset({0}))})
    assert offsets.outage() == "topic has no leader for [0]"
    identities.update({AT.topic: TopicMetadata(OLD, 1)})
    assert offsets.outage() is None
