"""Whether Poise's own topics take what this process writes: what `Producer` tells `Liveness`."""

from collections.abc import Callable, Hashable
from typing import Final

LATE_AFTER: Final = 5.0
"""Seconds that a record may wait for the broker."""
FAILED_FOR: Final = 30.0
"""Seconds for which a topic that did not take a record counts as failing, unless it takes another before."""


class SendHealth:
    """What is under way, and which topics failed.

    A topic that failed counts as failing until it takes a record, or for a while: where the process is not ready, none
    is sent to it. If a partition of it has no leader, it counts until each has one, and no longer: that the other
    partitions take their records says nothing of that one.

    Args:
        clock: Tells the time, seconds.
        leaderless: The partitions of a topic that have no leader, as the broker said it last.
    """

    def __init__(self, clock: Callable[[], float], leaderless: Callable[[str], frozenset[int]]) -> None:
        self._clock = clock
        self._leaderless = leaderless
        self._sending: dict[Hashable, tuple[str, float]] = {}
        """Oldest first."""
        self._failing: dict[str, float] = {}
        self._leaderless_topics: set[str] = set()
        """Of those that fail."""

    def sending(self, record: Hashable, topic: str) -> None:
        """Note that a record is on its way."""
        self._sending[record] = topic, self._clock()

    def finished(self, record: Hashable) -> None:
        """Note that a record is on its way no more; one that was not noted is passed over."""
        self._sending.pop(record, None)

    def succeeded(self, topic: str) -> None:
        """Note that a topic took a record."""
        if topic in self._failing and not self._leaderless(topic):
            self._recovered(topic)

    def failed(self, topic: str) -> None:
        """Note that a topic did not take a record, which it should have."""
        self._failing[topic] = self._clock()
        self._leaderless_topics.discard(topic)

    def problem(self) -> str | None:
        """What stands in the way of writing, in words; None = nothing does."""
        now = self._clock()
        topic, since = next(iter(self._sending.values()), ("", now))
        if now - since > LATE_AFTER:
            return f"{topic} has not taken a record for {now - since:.0f} s"
        for topic, at in tuple(self._failing.items()):
            if numbers := self._leaderless(topic):
                self._leaderless_topics.add(topic)
                return f"{topic} has no leader of partition {', '.join(map(str, sorted(numbers)))}"
            if now - at < FAILED_FOR and topic not in self._leaderless_topics:
                return f"{topic} did not take its last record"
            self._recovered(topic)
        return None

    def _recovered(self, topic: str) -> None:
        del self._failing[topic]
        self._leaderless_topics.discard(topic)
