"""Epoch: how far an index has applied `poise.documents`. Opaque on the wire; compared partition by partition."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Self

_FORMAT: Final = "e1"
"""The first field of the text; another format would be `e2`."""
_TOPIC_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_PART: Final = re.compile(r"(\d{1,9})~(\d{1,19})~(\d{1,19})")

PartitionProgress = tuple[int, float]
"""The highest applied offset of a partition, and when that document was published, unix seconds."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """How far an index has applied `poise.documents`.

    Epochs of one topic are compared partition by partition, so two epochs may be incomparable: each may be ahead in a
    different partition. An absent partition has no applied record, which is less than any offset.

    Args:
        topic_id: Kafka's id of `poise.documents`. A recreated topic has another id, and its offsets are unrelated.
        partitions: By partition, the highest applied offset and its timestamp (unix seconds, rounded to milliseconds).
    """

    topic_id: str
    partitions: Mapping[int, PartitionProgress] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not _TOPIC_ID.fullmatch(self.topic_id):
            raise ValueError(f"an epoch's topic id consists of letters, digits, - and _, not {self.topic_id[:80]!r}")
        if any(partition < 0 or offset < 0 or at < 0 for partition, (offset, at) in self.partitions.items()):
            raise ValueError("the partitions, offsets and times of an epoch must not be negative")
        exact = {partition: (offset, round(at, 3)) for partition, (offset, at) in sorted(self.partitions.items())}
        object.__setattr__(self, "partitions", MappingProxyType(exact))

    def __hash__(self) -> int:
        return hash((self.topic_id, tuple(self.partitions.items())))

    def encode(self) -> str:
        """Return the epoch as text: `e1.<topic id>.<partition>~<offset>~<unix ms>.…`. Safe in headers, URLs, keys."""
        parts = (f"{partition}~{offset}~{round(at * 1000)}" for partition, (offset, at) in self.partitions.items())
        return ".".join((_FORMAT, self.topic_id, *parts))

    @classmethod
    def decode(cls, text: str) -> Self:
        """Parse an epoch.

        Raises:
            ValueError: The text is not an epoch; the message names the invalid part.
        """
        form, _, rest = text.partition(".")
        if form != _FORMAT:
            raise ValueError(f"an epoch begins with {_FORMAT}, not {form[:20]!r}")
        topic_id, *written = rest.split(".")
        partitions: dict[int, PartitionProgress] = {}
        for part in written:
            found = _PART.fullmatch(part)
            if not found:
                raise ValueError(f"the parts of an epoch are partition~offset~milliseconds, not {part[:60]!r}")
            partition, offset, milliseconds = map(int, found.groups())
            if partition in partitions:
                raise ValueError(f"an epoch names each partition once, not {partition} twice")
            partitions[partition] = (offset, milliseconds / 1000)
        return cls(topic_id, partitions)

    def reached(self, other: "Epoch") -> bool:
        """Return whether this epoch is at least as far as another in every partition; False if their topics differ."""
        return self.topic_id == other.topic_id and not self.missing(other)

    def missing(self, other: "Epoch") -> list[int]:
        """Return the partitions in which the other epoch is further."""
        return [partition for partition, (offset, _) in other.partitions.items() if self._offset(partition) < offset]

    def with_offset(self, partition: int, offset: int, timestamp: float) -> Self:
        """Return this epoch with a document applied; a partition never moves back."""
        if self._offset(partition) >= offset:
            return self
        return type(self)(self.topic_id, {**self.partitions, partition: (offset, timestamp)})

    @classmethod
    def of_published(cls, topic_id: str, offsets: Iterable[tuple[int, int]], now: float) -> Self:
        """Return the epoch of an index that has these documents.

        Args:
            topic_id: The id of `poise.documents`.
            offsets: Partition and offset of each document or deletion that was published.
            now: Unix seconds.
        """
        epoch = cls(topic_id)
        for partition, offset in offsets:
            epoch = epoch.with_offset(partition, offset, now)
        return epoch

    @classmethod
    def lowest(cls, epochs: Iterable["Epoch"]) -> Self:
        """Return the epoch that all epochs have reached, such as that of an answer from several retrieves.

        Raises:
            ValueError: There is no epoch, or the epochs are of different topics.
        """
        every = list(epochs)
        if len({epoch.topic_id for epoch in every}) != 1:
            raise ValueError("the lowest epoch needs one or more epochs of one topic")
        shared = frozenset[int].intersection(*(frozenset(epoch.partitions) for epoch in every))
        return cls(
            every[0].topic_id, {partition: min(epoch.partitions[partition] for epoch in every) for partition in shared}
        )

    def _offset(self, partition: int) -> int:
        return self.partitions.get(partition, (-1, 0.0))[0]
