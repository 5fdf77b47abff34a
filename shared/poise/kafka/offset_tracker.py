"""The offset tracker: which offset of a partition may be committed, and which offsets above it are finished."""

from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from poise.kafka.offset_metadata import MAX_LENGTH, encode

FULL_ABOVE: Final = MAX_LENGTH * 3 // 4
"""A tracker that was full stays full while its metadata has more bytes than this."""


@dataclass(frozen=True, slots=True)
class Commit:
    """A group's commit for one partition."""

    offset: int
    """The next offset to read: everything delivered below it is finished."""
    finished: str = ""
    """The finished offsets above it, encoded by `offset_metadata.encode`."""
    topic_id: str = ""
    """Kafka's id of the topic; empty = not known."""


class OffsetTracker:
    """Tracks the delivered offsets of one partition. No clock, no I/O.

    The watermark is the offset to commit: the first unfinished one, or the one after the last delivered. Compacted and
    transactional logs have gaps; these count as finished. Memory grows with the number of unfinished messages, however
    far the watermark lies behind.

    Args:
        committed: Where reading starts; None = at the first delivered offset.
        finished: Ranges at or above it that an earlier owner has finished, ascending.
        topic_id: Kafka's id of the topic; empty = not known.
    """

    def __init__(self, committed: int | None = None, finished: Sequence[range] = (), topic_id: str = "") -> None:
        self.topic_id = topic_id
        self.log_deleted = False
        """Whether the log no longer exists: nothing can deliver these messages again."""
        self._unfinished: OrderedDict[int, None] = OrderedDict()  # ascending: Kafka delivers in order
        self._next = committed  # one after the last delivered
        self._finished_ahead = deque(finished)
        self._committed: Commit | None = (
            None if committed is None else Commit(committed, encode(committed, finished)[0], topic_id)
        )
        self.metadata_full = False
        """Whether the finished offsets did not fit the last `to_commit`: then no more messages should be taken."""

    @property
    def watermark(self) -> int | None:
        """Where reading would resume if the process ended now; None before the first delivery."""
        return next(iter(self._unfinished), self._next)

    @property
    def position(self) -> int | None:
        """The next offset to read; None before the first delivery."""
        return self._next

    @property
    def unfinished(self) -> int:
        """Number of delivered messages that are not finished."""
        return len(self._unfinished)

    def deliver(self, offset: int) -> bool:
        """Mark a message as delivered.

        After a rebalance or a restart, Kafka delivers again from the committed offset. Messages that were delivered
        before, or finished by an earlier owner, are recognized.

        Returns:
            Whether the message must be handled.
        """
        if self._next is not None and offset < self._next:
            return False
        self._next = offset + 1
        while self._finished_ahead and self._finished_ahead[0].stop <= offset:
            self._finished_ahead.popleft()
        if self._finished_ahead and offset in self._finished_ahead[0]:
            return False
        self._unfinished[offset] = None
        return True

    def finish(self, offset: int) -> None:
        """Mark a delivered message as finished.

        Raises:
            ValueError: It was not delivered, or is finished already.
        """
        if offset not in self._unfinished:
            raise ValueError(f"offset {offset} is not being handled")
        del self._unfinished[offset]

    def to_commit(self) -> Commit | None:
        """Return what to commit, or None if nothing has changed since the last accepted commit."""
        watermark = self.watermark
        if watermark is None:
            return None
        metadata, complete = encode(watermark, self._finished_above(watermark))
        self.metadata_full = not complete or (self.metadata_full and len(metadata) > FULL_ABOVE)
        commit = Commit(watermark, metadata, self.topic_id)
        return None if commit == self._committed else commit

    def mark_committed(self, commit: Commit) -> None:
        """Record an accepted commit."""
        self._committed = commit

    def _finished_above(self, watermark: int) -> list[range]:
        """Return the ranges between unfinished offsets, gaps of the log included, then those of an earlier owner."""
        end = self._next if self._next is not None else watermark
        found, start = [], watermark
        for offset in self._unfinished:
            if offset > start:
                found.append(range(start, offset))
            start = offset + 1
        if end > start:
            found.append(range(start, end))
        return found + [range(max(ahead.start, end), ahead.stop) for ahead in self._finished_ahead if ahead.stop > end]
