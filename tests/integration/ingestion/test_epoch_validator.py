"""Unreachable epochs are rejected, and never the epoch of an acknowledged document."""

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


async def test_the_epoch_of_a_new_document_is_accepted(mesh_settings: MeshSettings) -> None:
    async with Poise(mesh_settings.broker) as poise, EpochValidator(poise.mesh.logs.access) as check:

        async def ingest_and_check(number: int) -> None:
            await check.validate(await poise.ingest({f"{number}": "text"}))

        for _ in range(5):
            await asyncio.gather(*(ingest_and_check(number) for number in range(20)))


async def test_a_record_behind_an_open_transaction_counts(mesh_settings: MeshSettings) -> None:
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


async def test_an_epoch_beyond_the_end_offset_is_rejected_until_the_log_reaches_it(mesh_settings: MeshSettings) -> None:
    async with WorkerRuntime(mesh_settings, tier="client") as mesh, EpochValidator(mesh.logs.access) as check:
        last = await mesh.producer.publish(DOCUMENTS, None, key="k", partition=3)
        following = Epoch(await mesh.logs.topic_id(DOCUMENTS.name), {3: (last.offset + 1, 0.0)})
        with pytest.raises(InvalidMessageError, match=f"names offset {last.offset + 1} of partition 3 of"):
            await check.validate(following)
        await mesh.producer.publish(DOCUMENTS, None, key="k", partition=3)
        await check.validate(following)


async def test_the_drills_epoch_ahead_of_the_index_is_accepted(mesh_settings: MeshSettings) -> None:
    async with Poise(mesh_settings.broker) as poise, EpochValidator(poise.mesh.logs.access) as check:
        epoch = await poise.ingest({"known": "text"})
        behind = await unreachable_epoch(poise, epoch)
        assert not epoch.reached(behind)
        await check.validate(behind)


async def test_every_epoch_is_accepted_while_the_broker_is_down(
    mesh_settings: MeshSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with WorkerRuntime(mesh_settings, tier="client") as mesh, EpochValidator(mesh.logs.access) as check:
        monkeypatch.setattr(epoch_validator, "BROKER_TIMEOUT", 0.0)
        await check.validate(Epoch(await mesh.logs.topic_id(DOCUMENTS.name), {0: (10**12, 0.0)}))
