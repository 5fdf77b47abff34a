"""Commits: one attempt, under the generation it was made in; and what a group has committed, read back.

aiokafka's own `commit` tries again for as long as the coordinator fails, each time under the generation that is current
by then. So an offset that was right when the commit began can be accepted after another member has taken the partition
over, moved it on and handed it back: the partition is rewound, or moved past what nobody has finished. Here a commit
is written once and sent once: should it arrive late, Kafka refuses it, for its generation is over.
"""

import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    IllegalGenerationError,
    KafkaError,
    NoError,
    NotCoordinatorForGroupError,
    RebalanceInProgressError,
    RequestTimedOutError,
    UnknownMemberIdError,
    UnknownTopicOrPartitionError,
    for_code,
)
from aiokafka.protocol.commit import OffsetCommitRequest

from poise.kafka.offset_tracker import Commit

Moved = (IllegalGenerationError, RebalanceInProgressError, UnknownMemberIdError)
"""Why a commit is refused for good: the group is no longer the one it was made in."""
_WITH_ID: Final = re.compile(r"([0-9a-f-]{36}):(.*)")
_NOT_THERE = (GroupCoordinatorNotAvailableError, NotCoordinatorForGroupError, RequestTimedOutError)


def written(commit: Commit) -> str:
    """What is committed beside the offset: the topic's id, then what is finished above."""
    return f"{commit.topic_id}:{commit.metadata}" if commit.topic_id else commit.metadata


def read(offset: int, text: str) -> Commit:
    """What was committed."""
    found = _WITH_ID.fullmatch(text)
    return Commit(offset, found[2], found[1]) if found else Commit(offset, text)


async def commit_once(consumer: AIOKafkaConsumer, commits: Mapping[TopicPartition, Commit]) -> set[TopicPartition]:
    """Commit for a member of a group, in one attempt.

    Returns:
        The partitions that it was accepted for: all but those whose topic does not exist any more.

    Raises:
        KafkaError: It was not accepted; one of `Moved` if the group has changed.
    """
    coordinator: Any = consumer._coordinator  # noqa: SLF001 - the public way tries again: see the module's text
    topics: dict[str, list[tuple[int, int, str]]] = defaultdict(list)
    for partition, commit in commits.items():
        topics[partition.topic].append((partition.partition, commit.offset, written(commit)))
    request = OffsetCommitRequest(
        coordinator.group_id,
        coordinator.generation,
        coordinator.member_id,
        OffsetCommitRequest.DEFAULT_RETENTION_TIME,
        list(topics.items()),
    )
    response: Any = await coordinator._send_req(request)  # noqa: SLF001 - likewise
    answers = [(topic, at, code) for topic, partitions in response.topics for at, code in partitions]
    said = {TopicPartition(topic, at): for_code(code) for topic, at, code in answers}
    errors = [error for error in said.values() if not issubclass(error, (NoError, UnknownTopicOrPartitionError))]
    if any(issubclass(error, _NOT_THERE) for error in errors):
        coordinator.coordinator_dead()
    if errors:
        first: type[KafkaError] = errors[0]
        raise first(f"offsets of group {coordinator.group_id} were not committed")
    return {at for at, error in said.items() if issubclass(error, NoError)}
