"""The assignor: which member of a group gets which partitions, moving as few as can be."""

from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor


def sticky() -> type[StickyPartitionAssignor]:
    """A sticky assignor for one consumer.

    aiokafka's keeps what a consumer was assigned on its class. A process has a consumer for each topic: with one class
    for all, each tells its group what another one has in another group, and nothing sticks. So each gets a class.
    """
    return type("StickyPartitionAssignor", (StickyPartitionAssignor,), {})
