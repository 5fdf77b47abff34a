from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from integration_kit import Command

from poise.contracts.topics import CATALOGUE
from poise.stack import Kafka

pytestmark = pytest.mark.integration


async def test_topics_are_checked_applied_and_corrected(poise: Command, tmp_path: Path) -> None:
    async with Kafka(tmp_path / "kafka") as node:
        to = ("--broker", node.bootstrap)
        missing = await poise("topics", "check", *to)
        assert missing.exit_code == 1
        assert missing.stdout.count("differs ") == missing.stdout.count(": missing") == len(CATALOGUE)

        told = await poise("ask", "why?", *to)
        assert told.exit_code == 1
        assert "create them with `poise topics apply`" in told.stderr

        applied = await poise("topics", "apply", *to)
        assert applied.exit_code == 0
        assert f"{len(CATALOGUE)} created, 0 corrected" in applied.stdout
        assert (await poise("topics", "check", *to)).exit_code == 0

        await change(node.bootstrap, "poise.spans", {"retention.ms": "1000"})
        differs = await poise("topics", "check", *to)
        assert differs.exit_code == 1
        assert "differs poise.spans: retention.ms is 1000, not 86400000" in differs.stdout
        corrected = await poise("topics", "apply", *to)
        assert "corrected poise.spans" in corrected.stdout
        assert (await poise("topics", "check", *to)).exit_code == 0


async def change(bootstrap: str, topic: str, configuration: dict[str, str]) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    resource = ConfigResource(ConfigResourceType.TOPIC, topic, configuration)
    await admin.alter_configs([resource])
    found = ""
    while "'1000'" not in found:  # the controller has it, the broker that is asked hears of it a moment later
        found = str(await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)]))
    await admin.close()


async def test_the_table_is_shown_without_a_broker(poise: Command) -> None:
    shown = await poise("topics", "show")
    assert shown.exit_code == 0
    assert all(name in shown.stdout for name in CATALOGUE)
