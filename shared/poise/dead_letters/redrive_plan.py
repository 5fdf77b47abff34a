"""Redrive plan: decides which dead letters are redriven, with which headers and how fast. No clock, no I/O."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from poise.contracts.headers import (
    ATTEMPT,
    CORRELATION_ID,
    DEAD_BATCH,
    DEAD_CUT,
    DEADLINE,
    REDRIVES,
    REPLY_PARTITION,
    REPLY_TO,
    STREAM_TO,
)
from poise.contracts.integers import MAX_INTEGER
from poise.contracts.topics import PREFIX
from poise.dead_letters.filter import DeadLetterFilter, invalid_field
from poise.dead_letters.model import ADDED_HEADERS, DeadLetter, DeadLetterState
from poise.kafka.record import Headers, Position

_REPLY_HEADERS: Final = frozenset({REPLY_TO, CORRELATION_ID, REPLY_PARTITION, STREAM_TO})
_TRANSACTION_SECONDS: Final = 0.1
"""Maximum content of one transaction, in seconds of the rate."""
MAX_BATCH: Final = 100
"""Maximum number of dead letters in one transaction."""
MAX_BATCH_BYTES: Final = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class RedriveOptions:
    """How dead letters are redriven."""

    keep_reply_to: bool = False
    """Keep `reply_to`; by default it is dropped because the caller is gone."""
    keep_deadline: bool = False
    """Keep the deadline; by default the message gets a new one."""
    force: bool = False
    """Redrive quarantined dead letters too, if their ids are given."""
    rate: float | None = None
    """Dead letters per second; None = unlimited."""
    dry_run: bool = False
    """Only report what a redrive would do."""

    def check(self, chosen: DeadLetterFilter) -> None:
        """Check the options against the filter.

        Raises:
            InvalidMessageError: `force` is set without ids.
        """
        if self.force and not chosen.ids:
            raise invalid_field("force", "`force` needs the ids of the quarantined dead letters to send again")


@dataclass(frozen=True, slots=True)
class RedriveOutcome:
    """The outcome of one dead letter of a redrive."""

    entry: DeadLetter
    sent: Position | None = None
    """The position of the resent message; None = it was not sent."""
    refused: str | None = None
    """Why it cannot be redriven; None = it can."""


def refusal_reason(
    entry: DeadLetter,
    options: RedriveOptions,
    now: float,
    newest: Mapping[tuple[str, bytes], Position],
    topics: Iterable[str],
) -> str | None:
    """Return why a dead letter cannot be redriven; None = it can.

    Args:
        entry: The dead letter.
        options: The options of the redrive.
        now: Unix seconds.
        newest: The position of the newest record in compacted topics, by topic and key.
        topics: The existing topics.
    """
    if entry.state is DeadLetterState.REDRIVEN:
        return f"{entry.id} was sent again already, to {entry.redriven}"
    if entry.state is DeadLetterState.QUARANTINED and not options.force:
        return (
            f"{entry.id} is quarantined: sent again {entry.redrives} times, it failed each time; "
            "after the cause is fixed, redrive it by its id, with force"
        )
    if (reason := _not_redrivable(entry, topics)) is not None:
        return reason
    newest_position = newest.get((entry.topic, entry.record.key or b""))
    if newest_position is not None and str(newest_position) != entry.failed_position:
        return f"{entry.id} is an old version: {newest_position} has the same key and is newer"
    return _expired(entry, now) if options.keep_deadline else None


def _not_redrivable(entry: DeadLetter, topics: Iterable[str]) -> str | None:
    if entry.record.header(DEAD_CUT) is not None:
        return f"{entry.id} has only the beginning of its message, which exceeded the maximum record size"
    if entry.record.header(DEAD_BATCH) is not None:
        return f"{entry.id} is a batch that cannot be decoded, not a message: its writer must send its records again"
    if not entry.topic.startswith(PREFIX) or entry.topic not in topics:
        return f"{entry.id} came from {entry.topic}, which is not a topic of Poise"
    return None


def _expired(entry: DeadLetter, now: float) -> str | None:
    deadline = entry.record.int_header(DEADLINE)
    if deadline is not None and deadline <= now * 1_000:
        return f"{entry.id} would be dropped unhandled: its deadline passed {now - deadline / 1_000:.0f} s ago"
    return None


def redrive_headers(entry: DeadLetter, options: RedriveOptions) -> Headers:
    """Return the headers of the redriven message: the count is increased, outdated headers are dropped."""
    dropped = ADDED_HEADERS | {ATTEMPT, REDRIVES}
    if not options.keep_reply_to:
        dropped |= _REPLY_HEADERS
    if not options.keep_deadline:
        dropped |= {DEADLINE}
    kept = [(name, value) for name, value in entry.record.headers if name not in dropped]
    return [*kept, (REDRIVES, str(min(entry.redrives + 1, MAX_INTEGER)).encode())]


def batches(entries: Sequence[DeadLetter], rate: float | None, alone: frozenset[str]) -> Iterator[Sequence[DeadLetter]]:
    """Split dead letters into transactions, in order.

    Args:
        entries: The dead letters to redrive.
        rate: Dead letters per second.
        alone: The ids that get a separate transaction each, because the broker may refuse one of them.
    """
    max_batch = MAX_BATCH if rate is None else max(1, min(MAX_BATCH, int(rate * _TRANSACTION_SECONDS)))
    batch: list[DeadLetter] = []
    size = 0
    for entry in entries:
        full = len(batch) >= max_batch or size + entry.size > MAX_BATCH_BYTES
        if batch and (full or {entry.id, batch[-1].id} & alone):
            yield batch
            batch, size = [], 0
        batch.append(entry)
        size += entry.size
    if batch:
        yield batch


def first_needed_offsets(positions: Iterable[Position], ends: Mapping[int, int]) -> dict[int, int]:
    """Return the offsets before which a dead-letter topic can be truncated, by partition.

    Args:
        positions: The positions of the dead letters that remain.
        ends: The end offsets when the dead letters were read.
    """
    first_needed = dict(ends)
    for partition, offset in ((position.partition, position.offset) for position in positions):
        first_needed[partition] = min(first_needed.get(partition, offset), offset)
    return first_needed
