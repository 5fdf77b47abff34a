"""The keyed queue: messages that were polled and wait for a slot, in the order in which they may start."""

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from aiokafka import TopicPartition

from poise.contracts.headers import REPLY_TO
from poise.kafka.offset_tracker import OffsetTracker
from poise.kafka.record import Record

_HEADER_OVERHEAD = 100
"""Estimated bytes of a header besides its name and value."""


@dataclass(eq=False, slots=True)
class PendingRecord:
    """A message that was polled and is not finished."""

    record: Record
    partition: TopicPartition
    tracker: OffsetTracker
    size: int = field(init=False)
    """Estimated bytes in memory."""

    @property
    def expects_reply(self) -> bool:
        """Whether a caller waits for the reply."""
        return self.record.raw_header(REPLY_TO) is not None

    def __post_init__(self) -> None:
        """Compute the size once: it is added when the message is queued and subtracted when it is finished."""
        record = self.record
        headers = sum([_HEADER_OVERHEAD + len(name) + len(value or b"") for name, value in record.headers])
        self.size = len(record.value or b"") + len(record.key or b"") + headers


class KeyedQueue:
    """A queue of messages. If ordered, a message blocks later ones of the same key until it is finished.

    Args:
        ordered: Whether messages of one key are handled one after another.
    """

    def __init__(self, *, ordered: bool) -> None:
        self._ordered = ordered
        self._ready: deque[PendingRecord] = deque()
        self._waiting: dict[bytes, deque[PendingRecord]] = {}
        """The waiting messages by key. A key is present, even with none, while a message of it is ready or popped."""
        self.blocked_count: Counter[TopicPartition] = Counter()
        """How many messages of each partition are blocked by another of their key."""

    def __bool__(self) -> bool:
        """Return whether a message is ready."""
        return bool(self._ready)

    def add(self, pending: PendingRecord) -> None:
        """Add a message: ready, or waiting for its key if an earlier message of the key is not finished."""
        key = pending.record.key
        if not self._ordered or key is None:
            self._ready.append(pending)
        elif key in self._waiting:
            self._waiting[key].append(pending)
            self.blocked_count[pending.partition] += 1
        else:
            self._waiting[key] = deque()
            self._ready.append(pending)

    def pop(self) -> PendingRecord:
        """Remove and return the next ready message."""
        return self._ready.popleft()

    def pop_matching(self, matches: Callable[[PendingRecord], bool]) -> list[PendingRecord]:
        """Remove and return the ready messages that match."""
        found = [pending for pending in self._ready if matches(pending)]
        if found:
            self._ready = deque(pending for pending in self._ready if not matches(pending))
        return found

    def complete(self, pending: PendingRecord) -> None:
        """Mark a popped message as finished: the next one of its key becomes ready."""
        key = pending.record.key
        if self._ordered and key is not None and (blocked := self._waiting.get(key)) is not None:
            if blocked:
                following = blocked.popleft()
                self.blocked_count[following.partition] -= 1
                self._ready.appendleft(following)
            else:
                del self._waiting[key]

    def remove(self, matches: Callable[[PendingRecord], bool]) -> list[PendingRecord]:
        """Remove and return the queued messages that match, blocked ones too. Popped messages are not affected."""
        removed = [pending for pending in self._ready if matches(pending)]
        for blocked in self._waiting.values():
            removed_here = [pending for pending in blocked if matches(pending)]
            self.blocked_count.subtract(pending.partition for pending in removed_here)
            removed += removed_here
            remaining = [pending for pending in blocked if not matches(pending)]
            blocked.clear()
            blocked.extend(remaining)
        lookup = set(removed)
        heads = [pending for pending in self._ready if pending in lookup]
        self._ready = deque(pending for pending in self._ready if pending not in lookup)
        for head in heads:
            self.complete(head)  # a message of the key that stays becomes ready
        return removed
