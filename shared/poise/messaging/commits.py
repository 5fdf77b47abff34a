"""Commits: one attempt, under the generation it was made in; and what a group has committed, read back.

aiokafka's own `commit` tries again for as long as the coordinator fails, each time under the generation that is current
by then. So an offset that was right when the commit began can be accepted after another member has taken the partition
over, moved it on and handed it back: the partition is rewound, or moved past what nobody has finished. Here a commit
is written once and sent once: should it arrive late, Kafka refuses it, for its generation is over.
"""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    IllegalGenerationError,
    KafkaError,
    NotCoordinatorForGroupError,
    RebalanceInProgressError,
    RequestTimedOutError,
    UnknownMemberIdError,
    for_code,
)
from aiokafka.protocol.commit import OffsetCommitRequest

from poise.messaging.offsets import Commit

Moved = (IllegalGenerationError, RebalanceInProgressError, UnknownMemberIdError)
"""Why a commit is refused for good: the group is no longer the one it was made in."""
_NOT_THERE = (GroupCoordinatorNotAvailableError, NotCoordinatorForGroupError, RequestTimedOutError)


async def commit_once(consumer: AIOKafkaConsumer, commits: Mapping[TopicPartition, Commit]) -> None:
    """Commit for a member of a group, in one attempt.

    Raises:
        KafkaError: It was not accepted, at least not for all partitions; one of `Moved` if the group has changed.
    """
    coordinator: Any = consumer._coordinator  # noqa: SLF001 - the public way tries again: see the module's text
    topics: dict[str, list[tuple[int, int, str]]] = defaultdict(list)
    for partition, commit in commits.items():
        topics[partition.topic].append((partition.partition, commit.offset, commit.metadata))
    request = OffsetCommitRequest(
        coordinator.group_id,
        coordinator.generation,
        coordinator.member_id,
        OffsetCommitRequest.DEFAULT_RETENTION_TIME,
        list(topics.items()),
    )
    response: Any = await coordinator._send_req(request)  # noqa: SLF001 - likewise
    errors = [for_code(code) for _, partitions in response.topics for _, code in partitions if code]
    if any(issubclass(error, _NOT_THERE) for error in errors):
        coordinator.coordinator_dead()
    if errors:
        first: type[KafkaError] = errors[0]
        raise first(f"offsets of group {coordinator.group_id} were not committed")
