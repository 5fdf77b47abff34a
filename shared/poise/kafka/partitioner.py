"""The partitioner: which partition a key belongs to, the same in every client that partitions as Java's does."""

from aiokafka.partitioner import murmur2


def partition_for(key: bytes, partitions: int) -> int:
    """The partition of a key: murmur2, as Java's and aiokafka's default has it."""
    return int(murmur2(key) & 0x7FFFFFFF) % partitions
