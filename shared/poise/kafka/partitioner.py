"""The partitioner: assigns a key to the same partition as Java's client does."""

from aiokafka.partitioner import murmur2


def partition_for(key: bytes, partitions: int) -> int:
    """Return the partition of a key: murmur2, the default of Java's client and of aiokafka."""
    return int(murmur2(key) & 0x7FFFFFFF) % partitions
