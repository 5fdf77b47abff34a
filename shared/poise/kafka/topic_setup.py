"""Applying the table of topics, in one call."""

from poise.kafka.admin import KafkaAdmin, TopicState
from poise.kafka.connection import Connection
from poise.settings import MeshSettings


async def apply(settings: MeshSettings, *, replication: int | None = None) -> list[TopicState]:
    """Create the topics that are missing and correct what differs.

    Args:
        settings: Names the broker.
        replication: Copies of each partition; None = three, or as many as there are brokers.

    Returns:
        The topics as they were before.

    Raises:
        SetupError: No broker answers, or it refuses.
    """
    async with KafkaAdmin(Connection.of(settings)) as admin:
        return await admin.apply(replication)
