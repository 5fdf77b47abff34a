"""Fixtures of all integration tests."""

from collections.abc import AsyncIterator

import pytest
from integration_kit import PlainKafkaClient


@pytest.fixture
async def plain_client(kafka: str) -> AsyncIterator[PlainKafkaClient]:
    """A client that speaks Kafka and knows nothing of Poise's library, with a topic of its own."""
    client = PlainKafkaClient(kafka)
    await client.start()
    yield client
    await client.stop()
