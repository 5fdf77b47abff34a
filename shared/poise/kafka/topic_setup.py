"""Apply the catalog of topics in one call."""

from poise.kafka.admin import KafkaAdmin, TopicState
from poise.kafka.connection import Connection
from poise.settings import MeshSettings


async def apply(settings: MeshSettings, *, replication: int | None = None) -> list[TopicState]:
    """Create missing topics and correct those that differ.

    Args:
        settings: Names the broker to connect to.
        replication: Replicas of each partition; None = three, or one for each broker if there are fewer.

    Returns:
        The topics as they were before the call.

    Raises:
        SetupError: No broker answers, or it refuses the topics.
    """
    async with KafkaAdmin(Connection.of(settings)) as admin:
        return await admin.apply(replication)
