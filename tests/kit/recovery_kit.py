"""Data loss in Kafka: a topic is recreated, with more records than before or fewer."""

import asyncio
from collections.abc import Sequence

from aiokafka.admin import AIOKafkaAdminClient

from poise.kafka import topic_setup
from poise.settings import MeshSettings
from poise.worker.runtime import WorkerRuntime

WITHIN = 30.0


async def recreate(settings: MeshSettings, *names: str) -> None:
    """Delete topics, and create the missing topics of the catalog."""
    await delete(settings, names)
    await topic_setup.apply(settings)


async def delete(settings: MeshSettings, names: Sequence[str]) -> None:
    """Delete topics, and wait until they are gone."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.broker)
    await admin.start()
    try:
        await admin.delete_topics(list(names))
        async with asyncio.timeout(WITHIN):
            while set(names) & set(await admin.list_topics()):  # noqa: ASYNC110 - Kafka sends no event
                await asyncio.sleep(0.05)
    finally:
        await admin.close()


async def all_ready(*meshes: WorkerRuntime) -> None:
    """Wait until processes are ready, except for `started`, because some of them serve nothing."""

    def missing() -> list[str]:
        return [name for mesh in meshes for name, met in mesh.readiness().items() if not met and name != "started"]

    try:
        async with asyncio.timeout(WITHIN):
            while missing():  # noqa: ASYNC110 - the condition has no event
                await asyncio.sleep(0.05)
    except TimeoutError as error:
        raise AssertionError(f"not ready: {', '.join(missing())}") from error
