"""Brokers that advertise an unreachable address: the error names it, and what to correct."""

import logging
from pathlib import Path

import pytest
from integration_kit import until

from poise.errors import SetupError
from poise.kafka.admin import KafkaAdmin
from poise.kafka.connection import Connection
from poise.settings import MeshSettings
from poise.stack import probe
from poise.stack.kafka import Kafka
from poise.worker.runtime import WorkerRuntime

pytestmark = pytest.mark.integration


async def test_an_advertised_address_that_cannot_be_reached_is_named(tmp_path: Path) -> None:
    nowhere = f"127.0.0.1:{probe.free_port()}"
    properties = {"advertised.listeners": f"PLAINTEXT://{nowhere}"}
    async with Kafka(tmp_path, properties=properties) as node:
        with pytest.raises(SetupError) as caught:
            await WorkerRuntime(MeshSettings(broker=node.bootstrap), tier="client").__aenter__()
    said = str(caught.value)
    assert f"Kafka answers at {node.bootstrap}" in said
    assert f"broker 1 advertises the address {nowhere}" in said
    assert "correct its advertised.listeners" in said


async def test_one_unreachable_broker_of_several_is_named_in_the_log(
    mesh_settings: MeshSettings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    nowhere = ("127.0.0.1", probe.free_port())
    real, asked = KafkaAdmin.unreachable_brokers, 0

    async def with_another(admin: KafkaAdmin) -> list[str]:
        nonlocal asked
        asked += 1
        assert not await real(admin)
        return await Connection.of(mesh_settings).unreachable_brokers({2: nowhere})

    monkeypatch.setattr(KafkaAdmin, "unreachable_brokers", with_another)
    monkeypatch.setattr("poise.worker.readiness.PROBE_INTERVAL", 0.01)
    monkeypatch.setattr("poise.worker.readiness.PROBES_PER_REACHABILITY_CHECK", 2)
    with caplog.at_level(logging.WARNING, "poise.worker.readiness"):
        async with WorkerRuntime(mesh_settings, tier="client"):
            await until(lambda: asked >= 3)
    assert [record.getMessage().partition(", where")[0] for record in caplog.records] == [
        f"broker 2 advertises the address {nowhere[0]}:{nowhere[1]}"
    ]
