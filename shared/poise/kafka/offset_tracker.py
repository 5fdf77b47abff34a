"""The offset tracker: which offset of one partition may be committed, and what above it is finished already."""

from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from poise.kafka.offset_metadata import MAX_LENGTH, encode

FULL_UNTIL: Final = MAX_LENGTH * 3 // 4
"""Bytes of metadata down to which a tracker that was full remains so."""


@dataclass(frozen=True, slots=True)
class Commit:
    """What a group keeps of one partition."""

    offset: int
    """Where to read from: everything delivered below it is finished."""
    metadata: str = ""
    """The finished offsets above it, as `finished.encode` writes them."""
    topic_id: str = ""
    """Kafka's id of the topic that they are offsets of; empty = not known."""


class OffsetTracker:
    """Follows the delivered offsets of one partition; pure, without clock or IO.

    The watermark is the offset to commit: the first that is not finished, or the one after the last delivered.
    Compacted and transactional logs have gaps, which hold nothing that anyone could wait for. Its memory is that of
    what is unfinished, however far the watermark lies behind.

    Args:
        committed: Where reading begins; None = wherever the first delivery says.
        finished: Ranges at or above it that an earlier owner has finished, ascending.
        topic_id: Kafka's id of the topic; empty = not known.
    """

    def __init__(self, committed: int | None = None, finished: Sequence[range] = (), topic_id: str = "") -> None:
        self.topic_id = topic_id
        self.log_deleted = False
        """Whether the log that these are offsets of is no more: what was delivered of it is nowhere else."""
        self._unfinished: OrderedDict[int, None] = OrderedDict()  # ascending, for Kafka delivers so
        self._next = committed  # one after the last delivered
        self._finished_ahead = deque(finished)
        self._committed: Commit | None = (
            None if committed is None else Commit(committed, encode(committed, finished)[0], topic_id)
        )
        self.metadata_full = False
        """Whether what is finished above the watermark did not fit the last `to_commit`: no more should be taken."""

    @property
    def watermark(self) -> int | None:
        """Where to read from if the process ended now; None before the first delivery."""
        return next(iter(self._unfinished), self._next)

    @property
    def position(self) -> int | None:
        """Where to read on; None before the first delivery."""
        return self._next

    @property
    def unfinished(self) -> int:
        """How many delivered messages are not finished."""
        return len(self._unfinished)

    def deliver(self, offset: int) -> bool:
        """Note that a message was delivered.

        After a rebalance that brings the partition back, and after a restart, Kafka delivers again from the committed
        offset: what was delivered before, and what an earlier owner has finished, is recognised.

        Returns:
            True if it is to be handled, False if it was already.
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
        """Note that a delivered message is finished.

        Raises:
            ValueError: It was never delivered, or is finished already.
        """
        if offset not in self._unfinished:
            raise ValueError(f"offset {offset} is not being handled")
        del self._unfinished[offset]

    def to_commit(self) -> Commit | None:
        """What to commit, if it has changed since the last accepted commit."""
        watermark = self.watermark
        if watermark is None:
            return None
        metadata, all_of_it = encode(watermark, self._finished_above(watermark))
        self.metadata_full = not all_of_it or (self.metadata_full and len(metadata) > FULL_UNTIL)
        commit = Commit(watermark, metadata, self.topic_id)
        return None if commit == self._committed else commit

    def mark_committed(self, commit: Commit) -> None:
        """Note that a commit was accepted."""
        self._committed = commit

    def _finished_above(self, watermark: int) -> list[range]:
        """What lies between the unfinished, gaps of the log included; then what was finished by an earlier owner."""
        end = self._next if self._next is not None else watermark
        found, start = [], watermark
        for offset in self._unfinished:
            if offset > start:
                found.append(range(start, offset))
            start = offset + 1
        if end > start:
            found.append(range(start, end))
        return found + [range(max(ahead.start, end), ahead.stop) for ahead in self._finished_ahead if ahead.stop > end]
