"""Producer health: whether Poise's own topics accept what this process writes."""

from collections.abc import Callable, Hashable
from typing import Final

LATE_AFTER: Final = 5.0
"""Seconds that a record may wait for its acknowledgement."""
FAILED_FOR: Final = 30.0
"""Seconds for which a topic counts as failing after it did not take a record, unless it takes another one before."""


class SendHealth:
    """Tracks pending records and failing topics.

    A topic that failed counts as failing until it takes a record, or until `FAILED_FOR` has passed, because a process
    that is not ready gets no work that would write to it. If a partition has no leader, the topic counts as failing
    exactly until each has one, because records taken by other partitions say nothing about that one.

    Args:
        clock: Returns the time in seconds.
        leaderless: Returns the partitions of a topic that have no leader, as the broker reported last.
    """

    def __init__(self, clock: Callable[[], float], leaderless: Callable[[str], frozenset[int]]) -> None:
        self._clock = clock
        self._leaderless = leaderless
        self._sending: dict[Hashable, tuple[str, float]] = {}
        """Oldest first."""
        self._failing: dict[str, float] = {}
        self._leaderless_topics: set[str] = set()
        """Those of `_failing` that are without a leader for a partition."""

    def sending(self, record: Hashable, topic: str) -> None:
        """Mark a record as pending."""
        self._sending[record] = topic, self._clock()

    def finished(self, record: Hashable) -> None:
        """Mark a record as no longer pending; an unknown one is ignored."""
        self._sending.pop(record, None)

    def succeeded(self, topic: str) -> None:
        """Record that a topic accepted a record."""
        if topic in self._failing and not self._leaderless(topic):
            self._recovered(topic)

    def failed(self, topic: str) -> None:
        """Record that a topic failed to accept a valid record."""
        self._failing[topic] = self._clock()
        self._leaderless_topics.discard(topic)

    def problem(self) -> str | None:
        """Return why this process cannot write; None = it can."""
        now = self._clock()
        topic, since = next(iter(self._sending.values()), ("", now))
        if now - since > LATE_AFTER:
            return f"{topic} has not taken a record for {now - since:.0f} s"
        for topic, failed_at in tuple(self._failing.items()):
            if numbers := self._leaderless(topic):
                self._leaderless_topics.add(topic)
                return f"{topic} has no leader of partition {', '.join(map(str, sorted(numbers)))}"
            if now - failed_at < FAILED_FOR and topic not in self._leaderless_topics:
                return f"{topic} did not take its last record"
            self._recovered(topic)
        return None

    def _recovered(self, topic: str) -> None:
        del self._failing[topic]
        self._leaderless_topics.discard(topic)
