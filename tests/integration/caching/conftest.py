from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
import pytest_asyncio

from poise.messaging import topics
from poise.settings import MeshSettings
from poise.stack import Kafka


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def kafka(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """A Kafka of these tests' own: what others ingest would be found here."""
    async with Kafka(tmp_path_factory.mktemp("kafka")) as node:
        await topics.apply(MeshSettings(broker=node.bootstrap))
        yield node.bootstrap


@pytest.fixture
def name() -> str:
    """A word that no other test uses: a document's id, and what it is about."""
    return f"lamp{uuid4().hex[:10]}"
