"""The policy worker: what ends the ownership of a partition."""

from types import SimpleNamespace
from typing import cast

import pytest

from poise.contracts.topics import COMMANDS, POLICY, POLICY_STATE, SCORES, Topic
from poise.errors import UnavailableError
from poise.kafka.topic_identities import TopicIdentities, TopicMetadata
from poise.worker.runtime import WorkerRuntime
from poise_services.evaluation.policy_worker import PolicyWorker

READ = (POLICY, POLICY_STATE, COMMANDS, SCORES)


@pytest.mark.parametrize("made_again", READ, ids=lambda topic: topic.name)
async def test_a_recreated_topic_ends_the_ownership(made_again: Topic) -> None:
    async def describe(names: list[str]) -> dict[str, TopicMetadata]:
        return {name: TopicMetadata("one", 1) for name in names}

    deciding = PolicyWorker.__new__(PolicyWorker)
    identities = TopicIdentities()
    deciding._mesh = cast(
        WorkerRuntime, SimpleNamespace(topic_identities=identities, admin=SimpleNamespace(describe=describe))
    )
    async with deciding._recreation_check() as check:
        identities.update({topic.name: TopicMetadata("one", 1) for topic in READ})
        check()
        identities.update({made_again.name: TopicMetadata("two", 1)})
        with pytest.raises(UnavailableError, match=f"topic {made_again.name} was deleted and recreated"):
            check()
    assert not identities.topics
