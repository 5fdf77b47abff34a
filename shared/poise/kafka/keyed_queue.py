"""What waits to be handled: messages taken and not begun, in the order in which they may begin."""

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from aiokafka import TopicPartition

from poise.contracts.envelope import REPLY_TO
from poise.kafka.offset_tracker import OffsetTracker
from poise.kafka.record import Record

_HEADER_OVERHEAD = 100
"""Bytes that a header takes besides its own."""


@dataclass(eq=False, slots=True)
class PendingRecord:
    """A message that was taken."""

    record: Record
    partition: TopicPartition
    tracker: OffsetTracker
    size: int = field(init=False)
    """Bytes that it takes, about."""

    @property
    def expects_reply(self) -> bool:
        """Whether somebody waits for the reply."""
        return self.record.raw_header(REPLY_TO) is not None

    def __post_init__(self) -> None:
        """Measure it once: it is asked for when it comes and when it goes."""
        record = self.record
        headers = sum([_HEADER_OVERHEAD + len(name) + len(value or b"") for name, value in record.headers])
        self.size = len(record.value or b"") + len(record.key or b"") + headers


class KeyedQueue:
    """A queue of records; where order is asked for, one of each key at a time, the others behind it.

    Args:
        ordered: Messages of one key are handled one after another.
    """

    def __init__(self, *, ordered: bool) -> None:
        self._ordered = ordered
        self._ready: deque[PendingRecord] = deque()
        self._blocked: dict[bytes, deque[PendingRecord]] = {}
        """By key that is being handled or stands in `_ready`: what waits blocked."""
        self.blocked: Counter[TopicPartition] = Counter()
        """How many of each partition wait behind another of their key."""

    def __bool__(self) -> bool:
        """Whether one may begin."""
        return bool(self._ready)

    def add(self, pending: PendingRecord) -> None:
        """Let a pending wait."""
        key = pending.record.key
        if not self._ordered or key is None:
            self._ready.append(pending)
        elif key in self._blocked:
            self._blocked[key].append(pending)
            self.blocked[pending.partition] += 1
        else:
            self._blocked[key] = deque()
            self._ready.append(pending)

    def pop(self) -> PendingRecord:
        """The pending that may begin next."""
        return self._ready.popleft()

    def pop_matching(self, wanted: Callable[[PendingRecord], bool]) -> list[PendingRecord]:
        """Those that may begin next and are wanted."""
        found = [pending for pending in self._ready if wanted(pending)]
        if found:
            self._ready = deque(pending for pending in self._ready if not wanted(pending))
        return found

    def complete(self, pending: PendingRecord) -> None:
        """Note that a pending which was taken is done: the next of its key may begin."""
        key = pending.record.key
        if self._ordered and key is not None and (blocked := self._blocked.get(key)) is not None:
            if blocked:
                following = blocked.popleft()
                self.blocked[following.partition] -= 1
                self._ready.appendleft(following)
            else:
                del self._blocked[key]

    def remove(self, gone: Callable[[PendingRecord], bool]) -> list[PendingRecord]:
        """Take out what waits and is not to be handled here; returns it. What has begun is not touched."""
        dropped = [pending for pending in self._ready if gone(pending)]
        for behind in self._blocked.values():
            gone_behind = [pending for pending in behind if gone(pending)]
            self.blocked.subtract(pending.partition for pending in gone_behind)
            dropped += gone_behind
            kept = [pending for pending in behind if not gone(pending)]
            behind.clear()
            behind.extend(kept)
        out = set(dropped)
        heads = [pending for pending in self._ready if pending in out]
        self._ready = deque(pending for pending in self._ready if pending not in out)
        for head in heads:
            self.complete(head)  # what waits behind it and stays may begin
        return dropped
