"""Commit offsets in one attempt, under the generation in which the commit was made.

aiokafka's own `commit` retries while the coordinator fails, each time under the generation that is current by then:

    a commit starts → the coordinator fails → another member takes the partition over, moves on and hands it back
    → the retry is accepted under the new generation → the partition is rewound, or moved past unfinished messages

Here each commit is built once and sent once. If it arrives late, Kafka refuses it because its generation is over.
"""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    KafkaError,
    NoError,
    NotCoordinatorForGroupError,
    RequestTimedOutError,
    UnknownTopicOrPartitionError,
    for_code,
)
from aiokafka.protocol.commit import OffsetCommitRequest

from poise.kafka.offset_commits import encode_commit
from poise.kafka.offset_tracker import Commit
from poise.kafka.patches.versions import check_version

_COORDINATOR_GONE = (GroupCoordinatorNotAvailableError, NotCoordinatorForGroupError, RequestTimedOutError)


async def commit_once(consumer: AIOKafkaConsumer, commits: Mapping[TopicPartition, Commit]) -> set[TopicPartition]:
    """Commit offsets for a member of a group, in one attempt.

    Returns:
        The partitions for which the commit was accepted: all except those whose topic no longer exists.

    Raises:
        KafkaError: The commit was not accepted; one of `GroupChangedErrors` if the group has changed.
    """
    check_version("aiokafka")
    coordinator: Any = consumer._coordinator  # noqa: SLF001 - the public method retries, see the module's docstring
    topics: dict[str, list[tuple[int, int, str]]] = defaultdict(list)
    for partition, commit in commits.items():
        topics[partition.topic].append((partition.partition, commit.offset, encode_commit(commit)))
    request = OffsetCommitRequest(
        coordinator.group_id,
        coordinator.generation,
        coordinator.member_id,
        OffsetCommitRequest.DEFAULT_RETENTION_TIME,
        list(topics.items()),
    )
    response: Any = await coordinator._send_req(request)  # noqa: SLF001 - likewise
    answers = [(topic, number, code) for topic, partitions in response.topics for number, code in partitions]
    results = {TopicPartition(topic, number): for_code(code) for topic, number, code in answers}
    errors = [error for error in results.values() if not issubclass(error, (NoError, UnknownTopicOrPartitionError))]
    if any(issubclass(error, _COORDINATOR_GONE) for error in errors):
        coordinator.coordinator_dead()
    if errors:
        first: type[KafkaError] = errors[0]
        raise first(f"offsets of group {coordinator.group_id} were not committed")
    return {partition for partition, error in results.items() if issubclass(error, NoError)}
