"""The offset tracker: which offset of one partition may be committed."""

from collections import deque


class OffsetTracker:
    """Follows the delivered offsets of one partition; pure, without clock or IO.

    The watermark is the offset to commit: everything *delivered* below it is finished. Compacted and transactional logs
    have gaps, so contiguous means contiguous in delivered offsets.
    """

    def __init__(self) -> None:
        self._delivered: deque[int] = deque()  # at or above the watermark, ascending
        self._unfinished: set[int] = set()
        self._watermark: int | None = None
        self._committed: int | None = None

    @property
    def watermark(self) -> int | None:
        """Where to read from if the process ended now; None before the first delivery."""
        return self._watermark

    @property
    def unfinished(self) -> int:
        """How many delivered messages are not finished."""
        return len(self._unfinished)

    def deliver(self, offset: int) -> bool:
        """Note that a message was delivered.

        After a rebalance that brings the partition back, Kafka delivers again from the committed offset: what is below
        the watermark, or was delivered above it, is recognised.

        Returns:
            True if it is to be handled, False if it was delivered before.
        """
        if self._watermark is not None and offset < self._watermark:
            return False
        if self._delivered and offset <= self._delivered[-1]:
            return False
        if not self._delivered:
            self._watermark = offset  # a gap in the log between the watermark and here holds nothing to wait for
        self._delivered.append(offset)
        self._unfinished.add(offset)
        return True

    def finish(self, offset: int) -> None:
        """Note that a delivered message is finished.

        Raises:
            ValueError: It was never delivered, or is finished already.
        """
        if offset not in self._unfinished:
            raise ValueError(f"offset {offset} is not being handled")
        self._unfinished.remove(offset)
        while self._delivered and self._delivered[0] not in self._unfinished:
            self._watermark = self._delivered.popleft() + 1

    def to_commit(self) -> int | None:
        """The watermark, if it has moved since the last commit."""
        return None if self._watermark == self._committed else self._watermark

    def committed(self, offset: int) -> None:
        """Note that a commit was accepted."""
        self._committed = offset
