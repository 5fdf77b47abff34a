"""Fixtures of all integration tests."""

from collections.abc import AsyncIterator

import pytest
from integration_kit import PlainKafkaClient


@pytest.fixture
async def plain_client(kafka: str) -> AsyncIterator[PlainKafkaClient]:
    """Run a Kafka client that does not use Poise's library, with a separate topic."""
    client = PlainKafkaClient(kafka)
    await client.start()
    yield client
    await client.stop()
