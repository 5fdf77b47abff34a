"""Fixtures of all integration tests."""

from collections.abc import AsyncIterator

import pytest
from integration_kit import Outsider


@pytest.fixture
async def outsider(kafka: str) -> AsyncIterator[Outsider]:
    """A client that speaks Kafka and knows nothing of Poise's library, with a topic of its own."""
    client = Outsider(kafka)
    await client.start()
    yield client
    await client.stop()
