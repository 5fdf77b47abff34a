from pathlib import Path
from uuid import uuid4

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from integration_kit import Command

from poise.contracts.topics import CATALOGUE
from poise.stack.kafka import Kafka

pytestmark = pytest.mark.integration


async def test_topics_are_checked_applied_and_corrected(poise: Command, tmp_path: Path) -> None:
    async with Kafka(tmp_path / "kafka") as node:
        to = ("--broker", node.bootstrap)
        missing = await poise("topics", "check", *to)
        assert missing.exit_code == 1
        assert missing.stdout.count("differs ") == missing.stdout.count(": missing") == len(CATALOGUE)

        refused = await poise("ask", "why?", *to)
        assert refused.exit_code == 1
        assert "create them with `poise topics apply`" in refused.stderr

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


TIER = """
from poise.contracts import Message, Request
from poise import Tier

class Done(Message):
    kind = "done/1"

class Do(Request[Done]):
    kind = "do/1"
    reply = Done
    tier = "{name}"

async def do(request, context): ...

tier = Tier("{name}", {{Do: do}})
"""


async def change(bootstrap: str, topic: str, configuration: dict[str, str]) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    resource = ConfigResource(ConfigResourceType.TOPIC, topic, configuration)
    await admin.alter_configs([resource])
    found = ""
    while "'1000'" not in found:  # the broker learns of it after the controller
        found = str(await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)]))
    await admin.close()


async def test_the_topic_table_is_shown_without_a_broker(poise: Command) -> None:
    shown = await poise("topics", "show")
    assert shown.exit_code == 0
    assert all(name in shown.stdout for name in CATALOGUE)


async def test_topics_of_a_custom_tier_are_shown_applied_and_checked(poise: Command, tmp_path: Path) -> None:
    name = f"own-{uuid4().hex[:8]}"
    file = tmp_path / f"{name}.py"
    file.write_text(TIER.format(name=name), encoding="utf-8")
    shown = await poise("topics", "show", "--tier", str(file))
    assert f"poise.{name}.requests.batch" in shown.stdout
    missing = await poise("topics", "check", "--tier", f"{file}:tier")
    assert missing.exit_code == 1
    assert missing.stdout.count(": missing") == 6
    applied = await poise("topics", "apply", "--tier", str(file))
    assert applied.exit_code == 0
    assert f"created poise.{name}.dead" in applied.stdout
    assert (await poise("topics", "check", "--tier", str(file))).exit_code == 0
    refused = await poise("topics", "check", "--tier", "nowhere.py")
    assert refused.exit_code == 1
    assert "there is no Python file nowhere.py" in refused.stderr
