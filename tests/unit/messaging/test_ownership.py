"""Ownership: whatever ends its part in the group, it takes part again."""

import asyncio

import pytest
from aiokafka.errors import KafkaError

from poise.liveness import Liveness, Part
from poise.messaging import ownership
from poise.messaging.admin import Admin
from poise.messaging.connection import Connection
from poise.messaging.log_reader import LogAccess
from poise.messaging.ownership import Ownership
from poise.messaging.topic_identities import TopicIdentities
from poise.settings import MeshSettings


class Failing(Ownership):
    """Of which the first part in the group ends with an error."""

    def __init__(self, error: Exception) -> None:
        settings = MeshSettings(broker="127.0.0.1:1")
        connection = Connection.of(settings)
        logs = LogAccess(connection, Admin(connection), Liveness(), TopicIdentities())
        super().__init__(logs, settings, "a.topic", "a.group", self._idle)
        self.error: Exception | None = error
        self.again = asyncio.Event()

    async def _idle(self, partition: int, part: Part) -> None:
        raise AssertionError(partition, part)

    async def _be_member(self, part: Part) -> None:
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        part.progress()
        self.again.set()
        await asyncio.Event().wait()


@pytest.mark.parametrize("error", [KafkaError("gone"), OSError("too many open files"), AssertionError("theirs")])
async def test_whatever_ends_it_it_takes_part_again(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ownership, "AGAIN_AFTER_MOST", 0.0)
    async with Failing(error) as failing:
        await asyncio.wait_for(failing.again.wait(), 10)
