"""The embedded Kafka serves, keeps its data, and comes back after a kill."""

from pathlib import Path

import pytest

from poise.stack import Kafka, probe

pytestmark = pytest.mark.integration


async def test_serves_again_after_a_kill(tmp_path: Path) -> None:
    async with Kafka(tmp_path) as node:
        identity = (tmp_path / "data" / "meta.properties").read_text()
        before = node.child.pid
        node.child.kill()
        assert await node.child.wait() == -9

        await node.start()

        assert node.child.pid != before
        assert await probe.kafka_brokers("127.0.0.1", node.port) == 1
        assert (tmp_path / "data" / "meta.properties").read_text() == identity
