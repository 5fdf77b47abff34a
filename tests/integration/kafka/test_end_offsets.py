"""The end offsets of a topic whose partitions change: recreated with fewer, or extended."""

from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack
from uuid import uuid4

import pytest
import pytest_asyncio
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic

from poise.contracts.topics import HOUR, Topic
from poise.errors import UnavailableError
from poise.kafka.end_offsets import EndOffsets
from poise.settings import MeshSettings
from poise.worker.runtime import WorkerRuntime

pytestmark = pytest.mark.integration


@pytest_asyncio.fixture
async def admin(mesh_settings: MeshSettings) -> AsyncIterator[AIOKafkaAdminClient]:
    client = AIOKafkaAdminClient(bootstrap_servers=mesh_settings.broker)
    await client.start()
    yield client
    await client.close()


async def until_partitions(ends: EndOffsets, wanted: Collection[int], *, fail_early: bool = False) -> None:
    while True:
        try:
            if set(await ends.fetch()) == set(wanted):
                return
        except UnavailableError:  # while the topic does not exist
            if fail_early:
                raise


async def test_added_and_removed_partitions_are_noticed_without_a_restart(
    mesh_settings: MeshSettings, admin: AIOKafkaAdminClient
) -> None:
    topic = f"ends-{uuid4().hex[:8]}"
    async with AsyncExitStack() as stack:
        mesh = await stack.enter_async_context(WorkerRuntime(mesh_settings, tier="client"))
        await mesh.admin.create([Topic(topic, (), partitions=2, retention=HOUR)])
        ends = await stack.enter_async_context(EndOffsets(mesh.connection, topic))
        await until_partitions(ends, {0, 1})
        await admin.create_partitions({topic: NewPartitions(total_count=3)})
        await until_partitions(ends, {0, 1, 2})
        landed = await mesh.producer.records.send(topic, b"x", key=None, headers=[], partition=2)
        assert (await ends.fetch())[2] == landed.offset + 1
        await admin.delete_topics([topic])
        with pytest.raises(UnavailableError):
            await until_partitions(ends, (), fail_early=True)
        await admin.create_topics([NewTopic(topic, 1, 1)])
        await until_partitions(ends, {0})
