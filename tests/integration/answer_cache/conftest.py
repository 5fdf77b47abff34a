from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
import pytest_asyncio

from poise.kafka import end_offsets, topic_setup
from poise.redis import client
from poise.settings import MeshSettings
from poise.stack.kafka import Kafka
from poise_services.orchestration import document_versions


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def kafka(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """Run a separate broker, because these tests would find the documents of others."""
    async with Kafka(tmp_path_factory.mktemp("kafka")) as node:
        await topic_setup.apply(MeshSettings(broker=node.bootstrap))
        yield node.bootstrap


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set long timeouts for the log of versions and for Redis.

    All tiers and a thousand callers share one process here. A busy process can read a response two seconds late, which
    would count as an unreadable log or an unavailable Redis.
    """
    defaults = client.RedisClient.__init__.__kwdefaults__
    assert defaults is not None
    monkeypatch.setattr(document_versions, "SYNC_TIMEOUT", 30.0)
    monkeypatch.setattr(end_offsets, "REQUEST_TIMEOUT_MS", 30_000)
    monkeypatch.setitem(defaults, "command_timeout", 30.0)
    monkeypatch.setattr(client, "POOL_TIMEOUT", 30.0)


@pytest.fixture
def name() -> str:
    """Return a unique word that is both the id of a document and its subject."""
    return f"lamp{uuid4().hex[:10]}"
