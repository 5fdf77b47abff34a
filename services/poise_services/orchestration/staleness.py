"""Staleness: whether a stored answer is still fresh, and how long a stale one may be sent. No clock, no I/O."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from poise.contracts import Epoch
from poise.redis.answer_store import CachedAnswer, Dependency
from poise_services.orchestration.document_versions import DocumentState

UNKNOWN = "which documents have changed cannot be determined"


@dataclass(frozen=True, slots=True)
class Staleness:
    """How stale an answer is."""

    reason: str | None = None
    """Why it is stale; None = it is fresh."""
    since: float = 0.0
    """When it became stale, unix seconds."""
    deleted: bool = False
    """Whether a document that it depends on was deleted."""

    @property
    def fresh(self) -> bool:
        """Whether it may be sent unmarked."""
        return self.reason is None

    def may_send_stale(self, max_stale_seconds: float, now: float) -> bool:
        """Return whether a stale answer may be sent, marked. For a fresh one see `fresh`.

        Not if it has been stale for longer than `max_stale_seconds`, or depends on a deleted document: deleted text
        is not sent again. The exception is a replay whose journal says to send the answer (`CacheLookup.reassess`).
        """
        return max_stale_seconds > 0 and not self.deleted and self.within(max_stale_seconds, now)

    def within(self, seconds: float, now: float) -> bool:
        """Return whether it has been stale for at most `seconds`."""
        return now - self.since <= seconds


def staleness_of(
    cached: CachedAnswer, state_of: Callable[[str], DocumentState | None], topic_id: str, *, max_age: float, now: float
) -> Staleness:
    """Return how stale an answer is, by the documents' current versions.

    Args:
        cached: The answer.
        state_of: Returns the state of a document; None = unknown.
        topic_id: Kafka's id of the current `poise.documents`.
        max_age: Seconds for which an answer is fresh at most.
        now: Unix seconds.
    """
    causes = list(_changes(cached, state_of, topic_id))
    if now > cached.computed_at + max_age:
        causes.append(Staleness(f"it is older than {max_age:g} s", cached.computed_at + max_age))
    if not causes:
        return Staleness()
    since = min(now, *(cause.since for cause in causes))
    return Staleness(causes[0].reason, since, deleted=any(cause.deleted for cause in causes))


def _changes(
    cached: CachedAnswer, state_of: Callable[[str], DocumentState | None], topic_id: str
) -> Iterator[Staleness]:
    epoch = cached.answer.epoch
    if epoch is not None and _topic_of(epoch) != topic_id:
        yield Staleness("the documents topic was recreated", cached.computed_at)
    for dependency in cached.dependencies:
        yield from _change(dependency, state_of(dependency.document), cached.computed_at)


def _change(dependency: Dependency, state: DocumentState | None, computed_at: float) -> Iterator[Staleness]:
    if state is None or dependency.digest is None:
        yield Staleness(f"whether {dependency.source} has changed is not known", computed_at)
    elif state.digest is None:
        yield Staleness(f"{dependency.source} was deleted", state.changed_at, deleted=True)
    elif state.digest != dependency.digest:
        yield Staleness(f"{dependency.source} has changed", state.changed_at)


def _topic_of(epoch: str) -> str | None:
    try:
        return Epoch.decode(epoch).topic_id
    except ValueError:
        return None


def epoch_reached(epoch: str | None, requested: str | None) -> bool:
    """Return whether an epoch has reached the requested one; True if none is requested."""
    if requested is None:
        return True
    try:
        return epoch is not None and Epoch.decode(epoch).reached(Epoch.decode(requested))
    except ValueError:
        return False  # malformed: retrieval reports it
