"""Redrive: which dead letters are sent again, in what form and how fast. Pure decisions; `dead_letter_admin` acts."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from poise.contracts.envelope import CORRELATION_ID, DEADLINE, REPLY_PARTITION, STREAM_TO
from poise.contracts.integers import MAX_INTEGER
from poise.contracts.topics import PREFIX
from poise.dead_letters.filter import DeadLetterFilter, invalid_field
from poise.dead_letters.model import ADDED_HEADERS, ATTEMPT, CUT, REDRIVES, UNDECODED, DeadLetter, DeadLetterState
from poise.kafka.record import Headers, Position

_REPLY_HEADERS: Final = frozenset({"reply_to", CORRELATION_ID, REPLY_PARTITION, STREAM_TO})
_TRANSACTION_SECONDS: Final = 0.1
"""Seconds that one transaction should stand for at most, where a rate is given."""
MAX_BATCH: Final = 100
"""Letters in one transaction at most."""
MAX_BATCH_BYTES: Final = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class RedriveOptions:
    """How dead letters are sent again."""

    keep_reply_to: bool = False
    """Keep who waits for the reply; else it is dropped, for nobody does any more."""
    keep_deadline: bool = False
    """Keep the deadline; else a new one begins when it is sent."""
    force: bool = False
    """Also what is quarantined, if it is named."""
    rate: float | None = None
    """How many a second; None = as fast as the broker takes them."""
    dry_run: bool = False
    """Only say what would be done."""

    def check(self, chosen: DeadLetterFilter) -> None:
        """See that it goes with what is chosen.

        Raises:
            InvalidMessageError: It does not.
        """
        if self.force and not chosen.ids:
            raise invalid_field("force", "what is quarantined is sent again by its id only: name it")


@dataclass(frozen=True, slots=True)
class RedriveOutcome:
    """What became of a letter that was to be sent again."""

    letter: DeadLetter
    sent: Position | None = None
    """Where it is now; None = it was not sent."""
    refused: str | None = None
    """Why it can not be sent; None = it can."""


def refusal_reason(
    letter: DeadLetter,
    how: RedriveOptions,
    now: float,
    newest: Mapping[tuple[str, bytes], Position],
    topics: Iterable[str],
) -> str | None:
    """Why a letter can not be sent again; None = it can.

    Args:
        letter: The letter.
        how: What was asked for.
        now: Unix seconds.
        newest: Of compacted topics, where the newest record of a key stands, by topic and key.
        topics: Those that there are.
    """
    if letter.state is DeadLetterState.REDRIVEN:
        return f"{letter.id} was sent again already, to {letter.redriven}"
    if letter.state is DeadLetterState.QUARANTINED and not how.force:
        return (
            f"{letter.id} is quarantined: sent again {letter.redrives} times, it died each time; "
            "once that is repaired, name it, with force"
        )
    if (lacking := _not_redrivable(letter, topics)) is not None:
        return lacking
    later = newest.get((letter.topic, letter.record.key or b""))
    if later is not None and str(later) != letter.failed_at:
        return f"{letter.id} is an old version: {later} has the same key and came later"
    return _expired(letter, now) if how.keep_deadline else None


def _not_redrivable(letter: DeadLetter, topics: Iterable[str]) -> str | None:
    if letter.record.header(CUT) is not None:
        return f"{letter.id} is only the beginning of its message, which was larger than any record may be"
    if letter.record.header(UNDECODED) is not None:
        return f"{letter.id} is a batch that cannot be decoded, not a message: its writer must send its records again"
    if not letter.topic.startswith(PREFIX) or letter.topic not in topics:
        return f"{letter.id} came from {letter.topic}, which is no topic of Poise's"
    return None


def _expired(letter: DeadLetter, now: float) -> str | None:
    deadline = letter.record.int_header(DEADLINE)
    if deadline is not None and deadline <= now * 1_000:
        return f"{letter.id} would be dropped unhandled: its deadline passed {now - deadline / 1_000:.0f} s ago"
    return None


def redrive_headers(letter: DeadLetter, how: RedriveOptions) -> Headers:
    """The headers of the message when it is sent again: it counts, and drops what does not hold any more."""
    dropped = ADDED_HEADERS | {ATTEMPT, REDRIVES}
    if not how.keep_reply_to:
        dropped |= _REPLY_HEADERS
    if not how.keep_deadline:
        dropped |= {DEADLINE}
    kept = [(name, value) for name, value in letter.record.headers if name not in dropped]
    return [*kept, (REDRIVES, str(min(letter.redrives + 1, MAX_INTEGER)).encode())]


def batches(letters: Sequence[DeadLetter], rate: float | None, alone: frozenset[str]) -> Iterator[Sequence[DeadLetter]]:
    """The letters in the transactions that they are sent in, in order.

    Args:
        letters: What is to be sent.
        rate: How many a second.
        alone: The ids of those that have a transaction of their own, because one of them may be refused.
    """
    most = MAX_BATCH if rate is None else max(1, min(MAX_BATCH, int(rate * _TRANSACTION_SECONDS)))
    batch: list[DeadLetter] = []
    size = 0
    for letter in letters:
        if batch and (len(batch) >= most or size + letter.size > MAX_BATCH_BYTES or {letter.id, batch[-1].id} & alone):
            yield batch
            batch, size = [], 0
        batch.append(letter)
        size += letter.size
    if batch:
        yield batch


def first_needed_offsets(places: Iterable[Position], ends: Mapping[int, int]) -> dict[int, int]:
    """Up to where a dead-letter topic holds nothing that is needed, by partition: the first letter that is kept.

    Args:
        places: Where letters stand that are kept.
        ends: The end offsets as they were when the letters were read.
    """
    cut = dict(ends)
    for at in places:
        cut[at.partition] = min(cut.get(at.partition, at.offset), at.offset)
    return cut
