"""A commit is sent once, under the generation in which it was made."""

from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import (
    IllegalGenerationError,
    NotCoordinatorForGroupError,
    UnknownTopicOrPartitionError,
)

from poise.kafka.offset_commits import GroupChangedErrors
from poise.kafka.offset_tracker import Commit
from poise.kafka.patches.commit_once import commit_once

ONE, TWO = TopicPartition("topic", 1), TopicPartition("topic", 2)
COMMITS = {ONE: Commit(7, "p1bAQ"), TWO: Commit(9)}


class Coordinator:
    """A group coordinator that answers with an error code for each partition."""

    group_id = "group"
    generation = 3
    member_id = "member"

    def __init__(self, *error_codes: int) -> None:
        self.sent: list[Any] = []
        self.dead = False
        self._response = SimpleNamespace(topics=[("topic", list(zip((1, 2), error_codes, strict=True)))])

    async def _send_req(self, request: Any) -> Any:
        self.sent.append(request)
        return self._response

    def coordinator_dead(self) -> None:
        self.dead = True


async def commit(coordinator: Coordinator) -> set[TopicPartition]:
    consumer: Any = SimpleNamespace(_coordinator=coordinator)
    return await commit_once(consumer, COMMITS)


async def test_all_offsets_are_sent_in_one_request() -> None:
    coordinator = Coordinator(0, 0)
    assert await commit(coordinator) == {ONE, TWO}
    assert len(coordinator.sent) == 1


async def test_a_partition_whose_topic_is_gone_is_not_accepted_and_no_error() -> None:
    assert await commit(Coordinator(0, UnknownTopicOrPartitionError.errno)) == {ONE}


async def test_an_error_is_raised_without_a_retry() -> None:
    coordinator = Coordinator(0, IllegalGenerationError.errno)
    with pytest.raises(GroupChangedErrors, match="offsets of group group were not committed"):
        await commit(coordinator)
    assert len(coordinator.sent) == 1
    assert not coordinator.dead


async def test_a_coordinator_that_has_moved_is_looked_up_again() -> None:
    coordinator = Coordinator(NotCoordinatorForGroupError.errno, 0)
    with pytest.raises(NotCoordinatorForGroupError):
        await commit(coordinator)
    assert coordinator.dead
