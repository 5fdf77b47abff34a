"""The partition assignor of consumer groups: a rebalance moves as few partitions as possible."""

from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor


def sticky() -> type[StickyPartitionAssignor]:
    """Return a sticky assignor class for one consumer.

    aiokafka's assignor stores a consumer's assignment on the class. A process has a consumer for each topic. With one
    class for all of them, each would report another group's assignment, and no assignment would stick.
    """
    return type("StickyPartitionAssignor", (StickyPartitionAssignor,), {})
