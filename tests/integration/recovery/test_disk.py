"""Workers recover without a restart if Kafka loses its disk: they handle messages again."""

import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio
from cache_kit import CorpusClient, FirstSentenceModel, cache_settings, orchestrating, retrieving
from integration_kit import serving, settings_for_another_process
from policy_worker_kit import STEPS, LosingVariantCase, worker
from recovery_kit import WITHIN, all_ready

from poise.contracts import Generate
from poise.kafka import topic_setup
from poise.settings import MeshSettings
from poise.stack.kafka import Kafka
from poise.worker.runtime import WorkerRuntime
from poise.worker.tier import Tier

pytestmark = pytest.mark.integration


@pytest_asyncio.fixture
async def kafka(tmp_path: Path) -> AsyncIterator[Kafka]:
    async with Kafka(tmp_path / "kafka") as node:
        await topic_setup.apply(MeshSettings(broker=node.bootstrap))
        yield node


@pytest.fixture
def settings(kafka: Kafka, valkey: str, tmp_path: Path) -> MeshSettings:
    return MeshSettings(broker=kafka.bootstrap, redis_url=valkey, state_dir=tmp_path / "state")


async def test_workers_recover_from_an_empty_disk(kafka: Kafka, settings: MeshSettings) -> None:
    async with AsyncExitStack() as stack:
        meshes = [
            await stack.enter_async_context(retrieving(settings)),
            await stack.enter_async_context(
                serving(
                    settings_for_another_process(settings), Tier("inference", {Generate: FirstSentenceModel().write})
                )
            ),
            await stack.enter_async_context(orchestrating(settings_for_another_process(settings), cache_settings())),
            await stack.enter_async_context(worker(settings_for_another_process(settings))),
        ]
        client = CorpusClient(
            await stack.enter_async_context(WorkerRuntime(settings_for_another_process(settings), tier="client"))
        )
        case = LosingVariantCase(client.mesh)
        await _assert_works(client, case)

        await kafka.stop()
        shutil.rmtree(kafka.directory / "data")
        await kafka.start()
        await topic_setup.apply(settings)

        await all_ready(*meshes, client.mesh)
        await _assert_works(client, LosingVariantCase(client.mesh))


async def _assert_works(client: CorpusClient, case: LosingVariantCase) -> None:
    """Assert that documents are indexed, asks answered from them and decisions made from scores."""
    for number in range(5):
        await client.put(f"d{number}", f"The lamp number {number} was lit by the keeper in 184{number}.")
    answer = await client.ask("Who lit the lamp number 3?", within=WITHIN, cache="no-store")
    assert "lamp number 3" in answer.text
    await case.ask("set", spec=case.spec())
    await case.answers(60)
    await case.until_decided(1 + STEPS)
