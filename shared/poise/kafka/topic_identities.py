"""Topic identities: whether a topic is the one it was, or was deleted and made again under its name.

Kafka's clients address topics by name. One that reads on in a topic that was made again takes offsets of the old one
for offsets of the new one: what is below them counts as done, and what is beyond its end never comes.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

log = logging.getLogger(__name__)

OnRecreated = Callable[[str], None]
"""Told the new id of a topic that was deleted and made again; called on the event loop, returns at once."""


@dataclass(frozen=True, slots=True)
class TopicMetadata:
    """What the broker says of a topic that exists."""

    id: str
    """Kafka's, which no other topic ever has."""
    partitions: int
    leaderless: frozenset[int] = frozenset()
    """Partitions that can neither be read nor written now."""


@dataclass(slots=True)
class _Watched:
    id: str | None = None
    """The newest id that is known."""
    previous: set[str] = field(default_factory=set)
    """Ids that it had before: a broker that lags behind tells them for a while."""
    watchers: dict[OnRecreated, str | None] = field(default_factory=dict)
    """The id that each has been told, or began with."""


class TopicIdentities:
    """Notices that a topic was deleted and made again, and tells each who watches it, once.

    Pure: `take` is given what the broker answers, every few seconds; see `Readiness`.
    """

    def __init__(self) -> None:
        self._watched: dict[str, _Watched] = {}
        self._last: Mapping[str, TopicMetadata] = {}

    @property
    def topics(self) -> frozenset[str]:
        """The topics that are watched."""
        return frozenset(self._watched)

    def latest(self, topic: str) -> TopicMetadata | None:
        """What the broker said of a topic when it was last asked; None = that it does not exist, or nothing yet."""
        return self._last.get(topic)

    def leaderless(self, topic: str) -> frozenset[int]:
        """Return the partitions of a topic that had no leader when the broker was last asked."""
        found = self.latest(topic)
        return frozenset() if found is None else found.leaderless

    def watch(self, topic: str, callback: OnRecreated, *, known: str | None = None) -> None:
        """Have `callback` told whenever the topic turns out to be another one.

        Args:
            topic: The topic's name.
            callback: Told the new id, once for each time; nobody else's, and watching one topic only.
            known: The id that the caller read from the broker; None = the one that the broker tells next.
        """
        watched = self._watched.setdefault(topic, _Watched())
        watched.watchers[callback] = known or watched.id
        if known is not None:
            self._observe(topic, watched, known)

    def unwatch(self, topic: str, callback: OnRecreated) -> None:
        """Tell `callback` no more."""
        watched = self._watched.get(topic)
        if watched is None:
            return
        watched.watchers.pop(callback, None)
        if not watched.watchers:
            del self._watched[topic]

    def update(self, answer: Mapping[str, TopicMetadata]) -> None:
        """Take in what the broker says of the topics; one that is absent does not exist now."""
        self._last = answer
        for topic, watched in tuple(self._watched.items()):
            if (found := answer.get(topic)) is not None:
                self._observe(topic, watched, found.id)

    def _observe(self, topic: str, watched: _Watched, found: str) -> None:
        if found in watched.previous:
            return  # of a broker that has not heard of the new one yet
        if watched.id not in {None, found}:
            log.warning("topic %s was deleted and made again: its id is %s, before %s", topic, found, watched.id)
            watched.previous.add(str(watched.id))
        watched.id = found
        for callback, told in tuple(watched.watchers.items()):
            watched.watchers[callback] = found
            if told not in {None, found}:
                callback(found)
