"""Topic identities: whether a topic is still the same one, or was deleted and created again under its name.

Kafka's clients address topics by name. A consumer that continues in a recreated topic applies offsets of the old topic
to the new one: messages below them count as done, and messages beyond the new end never arrive.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

log = logging.getLogger(__name__)

OnRecreated = Callable[[str], None]
"""Receives the new id of a recreated topic. It is called on the event loop and must not block."""


@dataclass(frozen=True, slots=True)
class TopicMetadata:
    """What the broker reports of an existing topic."""

    id: str
    """Kafka's id, unique over time."""
    partitions: int
    leaderless: frozenset[int] = frozenset()
    """Partitions that have no leader: they can be neither read nor written."""


@dataclass(slots=True)
class _Watched:
    id: str | None = None
    """The newest known id."""
    previous: set[str] = field(default_factory=set)
    """Earlier ids: a broker that lags behind still reports them for a while."""
    watchers: dict[OnRecreated, str | None] = field(default_factory=dict)
    """By callback: the id that it last received, or started with."""


class TopicIdentities:
    """Notices that a topic was recreated, and notifies each watcher once.

    Pure: `update` receives the broker's answer every few seconds; see `Readiness`.
    """

    def __init__(self) -> None:
        self._watched: dict[str, _Watched] = {}
        self._last: Mapping[str, TopicMetadata] = {}

    @property
    def topics(self) -> frozenset[str]:
        """The watched topics."""
        return frozenset(self._watched)

    def latest(self, topic: str) -> TopicMetadata | None:
        """Return a topic's metadata from the last answer; None = the topic did not exist, or nothing is known yet."""
        return self._last.get(topic)

    def leaderless(self, topic: str) -> frozenset[int]:
        """Return the partitions of a topic that had no leader when the broker was last asked."""
        found = self.latest(topic)
        return frozenset() if found is None else found.leaderless

    def watch(self, topic: str, callback: OnRecreated, *, known: str | None = None) -> None:
        """Call `callback` each time that the topic turns out to be recreated.

        Args:
            topic: The topic's name.
            callback: Receives the new id, once for each recreation. One callback watches one topic only.
            known: The id that the caller has read from the broker; None = the next one that the broker reports.
        """
        watched = self._watched.setdefault(topic, _Watched())
        watched.watchers[callback] = known or watched.id
        if known is not None:
            self._observe(topic, watched, known)

    def unwatch(self, topic: str, callback: OnRecreated) -> None:
        """Stop calling `callback`."""
        watched = self._watched.get(topic)
        if watched is None:
            return
        watched.watchers.pop(callback, None)
        if not watched.watchers:
            del self._watched[topic]

    def update(self, answer: Mapping[str, TopicMetadata]) -> None:
        """Process the broker's metadata of the topics; an absent topic does not exist now."""
        self._last = answer
        for topic, watched in tuple(self._watched.items()):
            if (found := answer.get(topic)) is not None:
                self._observe(topic, watched, found.id)

    def _observe(self, topic: str, watched: _Watched, found: str) -> None:
        if found in watched.previous:
            return  # from a broker that does not know the new topic yet
        if watched.id not in {None, found}:
            log.warning("topic %s was recreated: its id is now %s, and was %s", topic, found, watched.id)
            watched.previous.add(str(watched.id))
        watched.id = found
        for callback, received in tuple(watched.watchers.items()):
            watched.watchers[callback] = found
            if received not in {None, found}:
                callback(found)
