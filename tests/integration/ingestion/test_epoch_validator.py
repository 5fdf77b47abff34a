"""Which epochs are refused: those that cannot be, and never one of a document that was acknowledged."""

import asyncio
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer

from poise import Poise
from poise.contracts import Epoch
from poise.contracts.topics import DOCUMENTS
from poise.errors import InvalidMessageError
from poise.ingestion import epoch_validator
from poise.ingestion.epoch_validator import EpochValidator
from poise.settings import MeshSettings
from poise.worker.runtime import WorkerRuntime
from poise_labs.drill.runner import unreachable_epoch

pytestmark = pytest.mark.integration


async def test_an_epoch_of_what_was_just_ingested_is_never_refused(mesh_settings: MeshSettings) -> None:
    async with Poise(mesh_settings.broker) as poise, EpochValidator(poise.mesh.logs.access) as check:

        async def ingest_and_check(number: int) -> None:
            await check.validate(await poise.ingest({f"{number}": "text"}))

        for _ in range(5):
            await asyncio.gather(*(ingest_and_check(number) for number in range(20)))


async def test_what_is_acknowledged_behind_an_open_transaction_counts(mesh_settings: MeshSettings) -> None:
    name = f"open-{uuid4().hex[:8]}"
    producer = AIOKafkaProducer(
        bootstrap_servers=mesh_settings.broker, transactional_id=name, transaction_timeout_ms=10_000
    )
    await producer.start()
    try:
        async with Poise(mesh_settings.broker) as poise, EpochValidator(poise.mesh.logs.access) as check:
            await producer.begin_transaction()
            await producer.send_and_wait(DOCUMENTS.name, None, key=b"k", partition=1)
            behind = await poise.mesh.producer.publish(DOCUMENTS, None, key="k", partition=1)
            await check.validate(await poise.epoch_of([behind]))
    finally:
        await producer.abort_transaction()
        await producer.stop()


async def test_one_beyond_an_end_is_refused_until_the_log_has_come_there(mesh_settings: MeshSettings) -> None:
    async with WorkerRuntime(mesh_settings, tier="client") as mesh, EpochValidator(mesh.logs.access) as check:
        last = await mesh.producer.publish(DOCUMENTS, None, key="k", partition=3)
        following = Epoch(await mesh.logs.topic_id(DOCUMENTS.name), {3: (last.offset + 1, 0.0)})
        with pytest.raises(InvalidMessageError, match=f"names offset {last.offset + 1} of partition 3 of"):
            await check.validate(following)
        await mesh.producer.publish(DOCUMENTS, None, key="k", partition=3)
        await check.validate(following)


async def test_the_epoch_that_the_drill_has_an_index_be_behind_is_not_refused(mesh_settings: MeshSettings) -> None:
    async with Poise(mesh_settings.broker) as poise, EpochValidator(poise.mesh.logs.access) as check:
        epoch = await poise.ingest({"known": "text"})
        behind = await unreachable_epoch(poise, epoch)
        assert not epoch.reached(behind)
        await check.validate(behind)


async def test_nothing_is_refused_while_the_broker_does_not_say(
    mesh_settings: MeshSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with WorkerRuntime(mesh_settings, tier="client") as mesh, EpochValidator(mesh.logs.access) as check:
        monkeypatch.setattr(epoch_validator, "BROKER_TIMEOUT", 0.0)
        await check.validate(Epoch(await mesh.logs.topic_id(DOCUMENTS.name), {0: (10**12, 0.0)}))
