"""Readiness: a process starts if all topics exist, even if the broker has just started and does not know all yet."""

from collections.abc import Collection, Mapping

import pytest

from poise.contracts.topics import CATALOGUE, RECORDS
from poise.errors import SetupError
from poise.kafka.admin import KafkaAdmin
from poise.kafka.connection import Connection
from poise.kafka.topic_identities import TopicIdentities, TopicMetadata
from poise.liveness import Liveness
from poise.settings import MeshSettings
from poise.worker import readiness
from poise.worker.readiness import Readiness

TOPICS = {name: TopicMetadata(f"id of {name}", 1) for name in CATALOGUE}


class StartingBroker(KafkaAdmin):
    """A broker that does not know one topic until it was queried a number of times."""

    def __init__(self, unknown_for: int) -> None:
        super().__init__(Connection.of(MeshSettings()))
        self.unknown_for = unknown_for

    async def describe(self, topics: Collection[str]) -> Mapping[str, TopicMetadata]:
        self.unknown_for -= 1
        return {name: TOPICS[name] for name in topics if name != RECORDS.name or self.unknown_for < 0}

    async def unreachable_brokers(self) -> list[str]:
        return []


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the interval and the timeout."""
    monkeypatch.setattr(readiness, "MISSING_TOPICS_INTERVAL", 0.01)
    monkeypatch.setattr(readiness, "MISSING_TOPICS_TIMEOUT", 0.2)


@pytest.mark.parametrize("queries", [0, 1, 3])
async def test_topics_that_appear_in_time_are_not_missing(queries: int) -> None:
    async with Readiness(StartingBroker(queries), Liveness(), TopicIdentities()) as found:
        assert found.broker_answers


async def test_topics_that_do_not_appear_are_named() -> None:
    with pytest.raises(
        SetupError, match=rf"topics are missing \({RECORDS.name}\): create them with `poise topics apply`"
    ):
        async with Readiness(StartingBroker(1_000_000), Liveness(), TopicIdentities()):
            pass
