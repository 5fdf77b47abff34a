"""Freshness: whether an answer that was worked out earlier still stands. Pure: told the time and what is known."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from poise.contracts import Epoch
from poise.redis.answer_store import CachedAnswer, Dependency
from poise_services.orchestration.document_versions import DocumentState


@dataclass(frozen=True, slots=True)
class Staleness:
    """How an answer stands."""

    why: str | None = None
    """Why it is stale, in words; None = it is fresh."""
    since: float = 0.0
    """When it became stale, unix seconds."""
    gone: bool = False
    """Whether a document that it rests on was deleted: its words are not said again, marked or not."""

    @property
    def fresh(self) -> bool:
        """Whether it may be sent as if it had been worked out now."""
        return self.why is None

    def within(self, seconds: float, now: float) -> bool:
        """Whether it has been stale for no longer than that."""
        return now - self.since <= seconds


UNKNOWN = "which documents have changed cannot be told"


def assess(
    kept: CachedAnswer, known: Callable[[str], DocumentState | None], topic_id: str, *, max_age: float, now: float
) -> Staleness:
    """How an answer stands, given all that the log of versions says.

    Args:
        kept: The answer.
        known: What is known of a document.
        topic_id: Kafka's id of the `poise.documents` that there is now.
        max_age: Seconds for which an answer is fresh at most.
        now: Unix seconds.
    """
    reasons = list(_changes(kept, known, topic_id))
    if now > kept.made + max_age:
        reasons.append(Staleness(f"it is older than {max_age:g} s", kept.made + max_age))
    if not reasons:
        return Staleness()
    since = min(now, *(reason.since for reason in reasons))
    return Staleness(reasons[0].why, since, gone=any(reason.gone for reason in reasons))


def _changes(kept: CachedAnswer, known: Callable[[str], DocumentState | None], topic_id: str) -> Iterator[Staleness]:
    epoch = kept.answer.epoch
    if epoch is not None and _topic_of(epoch) != topic_id:
        yield Staleness("the documents were made anew", kept.made)
    for ground in kept.grounds:
        yield from _change(ground, known(ground.document), kept.made)


def _change(ground: Dependency, now: DocumentState | None, made: float) -> Iterator[Staleness]:
    if now is None or ground.digest is None:
        yield Staleness(f"whether {ground.source} has changed is not known", made)
    elif now.digest is None:
        yield Staleness(f"{ground.source} was deleted", now.since, gone=True)
    elif now.digest != ground.digest:
        yield Staleness(f"{ground.source} has changed", now.since)


def _topic_of(epoch: str) -> str | None:
    try:
        return Epoch.decode(epoch).topic_id
    except ValueError:
        return None


def epoch_reached(epoch: str | None, wanted: str | None) -> bool:
    """Whether an answer's epoch has come to the one that is asked for."""
    if wanted is None:
        return True
    try:
        return epoch is not None and Epoch.decode(epoch).reached(Epoch.decode(wanted))
    except ValueError:
        return False  # whoever works it out says what is wrong with it
