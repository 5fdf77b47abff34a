"""Configuration of the consumers of a group."""

from poise.kafka.assignor import sticky
from poise.settings import MeshSettings


def group_config(settings: MeshSettings) -> dict[str, object]:
    """Return the consumer options that all groups share.

    An instance with a name is a static member: it keeps its partitions when it restarts within the session timeout.
    """
    named = "instance" in settings.model_fields_set
    return {
        "group_instance_id": settings.instance if named else None,
        "partition_assignment_strategy": (sticky(),),
        "auto_offset_reset": "none",  # `GroupOffsets` decides where to read when the committed offset is out of range
        "metadata_max_age_ms": 10_000,  # finds a topic that was missing
        "isolation_level": "read_committed",
        "fetch_max_wait_ms": 100,
        # Prefetched records come on top of the consumer's buffer, and decoding them blocks the event loop.
        "fetch_max_bytes": 2 * 1024 * 1024,
        "max_partition_fetch_bytes": 256 * 1024,
        "session_timeout_ms": 10_000,
        "heartbeat_interval_ms": 500,  # heartbeats tell a member of a rebalance
        "max_poll_interval_ms": 60_000,
    }
