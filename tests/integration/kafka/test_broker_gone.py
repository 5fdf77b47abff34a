"""A lost broker is reported at once, with one error, and does not prevent a stop."""

import asyncio
from pathlib import Path

import pytest
from integration_kit import until

from poise.contracts import Retrieve
from poise.contracts.topics import RECORDS
from poise.errors import SetupError, UnavailableError
from poise.kafka import producer, topic_setup
from poise.rpc.client import CallOptions
from poise.settings import MeshSettings
from poise.stack.kafka import Kafka
from poise.worker import connection, readiness
from poise.worker.runtime import WorkerRuntime

pytestmark = pytest.mark.integration


async def test_a_lost_broker_is_reported_and_the_process_still_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(producer, "SEND_TIMEOUT", 1.0)
    monkeypatch.setattr(readiness, "PROBE_INTERVAL", 0.1)
    monkeypatch.setattr(connection, "DISCONNECT_TIMEOUT", 2.0)
    async with Kafka(tmp_path) as kafka:
        settings = MeshSettings(broker=kafka.bootstrap)
        await topic_setup.apply(settings)
        async with WorkerRuntime(settings, tier="client") as client:
            assert client.readiness()["broker"]
            await kafka.stop()
            await until(lambda: not client.readiness()["broker"])
            with pytest.raises(UnavailableError):
                await client.producer.publish(RECORDS, Retrieve(query="x"), key="k")
            with pytest.raises(UnavailableError):
                await client.rpc.call(Retrieve(query="x"), CallOptions(run="r", step="s"))
            with pytest.raises(UnavailableError):
                await client.logs.topic_id("poise.documents")
            leaving = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - leaving < 10
        assert not [task for task in asyncio.all_tasks() if "aiokafka/producer" in repr(task)]


async def test_no_broker_at_all_is_one_clear_line() -> None:
    with pytest.raises(SetupError, match=r"no Kafka broker answers at 127\.0\.0\.1:1: "):
        async with WorkerRuntime(MeshSettings(broker="127.0.0.1:1"), tier="client"):
            raise AssertionError
