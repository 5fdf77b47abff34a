"""What waits to be handled: messages taken and not begun, in the order in which they may begin."""

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from aiokafka import TopicPartition

from poise.contracts.envelope import REPLY_TO
from poise.kafka.offset_tracker import OffsetTracker
from poise.kafka.record import Record

_OF_A_HEADER = 100
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
    def awaited(self) -> bool:
        """Whether somebody waits for the reply."""
        return self.record.raw_header(REPLY_TO) is not None

    def __post_init__(self) -> None:
        """Measure it once: it is asked for when it comes and when it goes."""
        record = self.record
        headers = sum([_OF_A_HEADER + len(name) + len(value or b"") for name, value in record.headers])
        self.size = len(record.value or b"") + len(record.key or b"") + headers


class KeyedQueue:
    """A queue of jobs; where order is asked for, one of each key at a time, the others behind it.

    Args:
        ordered: Messages of one key are handled one after another.
    """

    def __init__(self, *, ordered: bool) -> None:
        self._ordered = ordered
        self._ready: deque[PendingRecord] = deque()
        self._behind: dict[bytes, deque[PendingRecord]] = {}
        """By key that is being handled or stands in `_ready`: what waits behind."""
        self.behind: Counter[TopicPartition] = Counter()
        """How many of each partition wait behind another of their key."""

    def __bool__(self) -> bool:
        """Whether one may begin."""
        return bool(self._ready)

    def add(self, job: PendingRecord) -> None:
        """Let a job wait."""
        key = job.record.key
        if not self._ordered or key is None:
            self._ready.append(job)
        elif key in self._behind:
            self._behind[key].append(job)
            self.behind[job.partition] += 1
        else:
            self._behind[key] = deque()
            self._ready.append(job)

    def take(self) -> PendingRecord:
        """The job that may begin next."""
        return self._ready.popleft()

    def take_all(self, wanted: Callable[[PendingRecord], bool]) -> list[PendingRecord]:
        """Those that may begin next and are wanted."""
        found = [job for job in self._ready if wanted(job)]
        if found:
            self._ready = deque(job for job in self._ready if not wanted(job))
        return found

    def done(self, job: PendingRecord) -> None:
        """Note that a job which was taken is done: the next of its key may begin."""
        key = job.record.key
        if self._ordered and key is not None and (behind := self._behind.get(key)) is not None:
            if behind:
                following = behind.popleft()
                self.behind[following.partition] -= 1
                self._ready.appendleft(following)
            else:
                del self._behind[key]

    def drop(self, gone: Callable[[PendingRecord], bool]) -> list[PendingRecord]:
        """Take out what waits and is not to be handled here; returns it. What has begun is not touched."""
        dropped = [job for job in self._ready if gone(job)]
        for behind in self._behind.values():
            gone_behind = [job for job in behind if gone(job)]
            self.behind.subtract(job.partition for job in gone_behind)
            dropped += gone_behind
            kept = [job for job in behind if not gone(job)]
            behind.clear()
            behind.extend(kept)
        out = set(dropped)
        heads = [job for job in self._ready if job in out]
        self._ready = deque(job for job in self._ready if job not in out)
        for head in heads:
            self.done(head)  # what waits behind it and stays may begin
        return dropped
