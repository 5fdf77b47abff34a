"""Dead letters: messages that could not be handled, stored whole with the reason, and their current state.

A dead letter is the original message (key, value and headers; null stays null) with headers added for the reason. The
topic is append-only: when a dead letter is redriven or purged, `DeadLetterAdmin` appends a marker that names it. The
markers determine its state.
"""

import hashlib
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from poise.contracts.fault import FieldError
from poise.contracts.headers import (
    ATTEMPT,
    DEAD_AT,
    DEAD_BATCH,
    DEAD_CUT,
    DEAD_ERROR,
    DEAD_LETTER_HEADERS,
    DEAD_MESSAGE,
    DEAD_POSITION,
    DEAD_PURGED,
    DEAD_REDRIVEN,
    DEAD_TOPIC,
    DEAD_TRACEBACK,
    DEAD_WORKER,
    DEADLINE,
    ORIGIN,
    REDRIVES,
    TENANT,
)
from poise.contracts.topics import CATALOGUE, dead_letter_topic_name
from poise.errors import InvalidMessageError, MessageError, RecordTooLargeError
from poise.kafka.record import Headers, Position, Record, SendRecord
from poise.kafka.record_batch import MAX_HEADERS
from poise.kafka.record_size import size_of

ADDED_HEADERS: Final = frozenset(DEAD_LETTER_HEADERS)
"""The headers that a dead letter has in addition to those of its message."""
INDEXED_HEADERS: Final = frozenset(
    {*DEAD_LETTER_HEADERS, ORIGIN, REDRIVES, ATTEMPT, TENANT, DEADLINE} - {DEAD_TRACEBACK, DEAD_AT}
)
"""The headers that lists, filters and redrives need."""
MAX_INDEXED_KEY: Final = 256
"""Bytes of a key in the index; longer keys are hashed."""
MAX_INDEXED_VALUE: Final = 500
"""Bytes of a header's value in the index: error messages may be longer, names of topics and positions are not."""
MAX_INDEXED: Final = 100_000
"""Maximum number of dead letters in an index, each up to some 2.5 kB."""
_MAX_TRUNCATED_VALUE: Final = 1024 * 1024
_MAX_TRUNCATED_HEADER: Final = 1_024
_LENGTH_BYTES: Final = 8
"""Bytes that the encoded length of a value may need."""
_MAX_TRACEBACK: Final = 16_000
_MAX_MESSAGE: Final = 4_000

QUARANTINE_AFTER: Final = 3
"""Redrives of a message after which it is quarantined: it is then redriven only by id, with force."""


class DeadLetterState(StrEnum):
    """The state of a dead letter."""

    DEAD = "dead"
    QUARANTINED = "quarantined"
    """It failed after each of several redrives: it is redriven only by id, with force."""
    REDRIVEN = "redriven"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One dead letter."""

    tier: str
    record: Record
    redriven: str | None
    """The position of the resent message, `topic/partition/offset`; None = it was not redriven."""
    duplicates: tuple[Position, ...] = ()
    """The positions of its duplicates: a message that is delivered twice, and fails twice, is one dead letter."""
    size: int = 0
    """Bytes of the message's body, which `record` may omit."""

    @property
    def id(self) -> str:
        """Its id: `<tier>/<partition>/<offset>`."""
        return self._id(self.record.position)

    @property
    def ids(self) -> frozenset[str]:
        """Its id and those of its duplicates: a worker's log may name any of them."""
        return frozenset(map(self._id, self.positions))

    @property
    def positions(self) -> tuple[Position, ...]:
        """Its position and those of its duplicates."""
        return (self.record.position, *self.duplicates)

    def _id(self, position: Position) -> str:
        return f"{self.tier}/{position.partition}/{position.offset}"

    @property
    def state(self) -> DeadLetterState:
        """Its current state."""
        if self.redriven is not None:
            return DeadLetterState.REDRIVEN
        return DeadLetterState.QUARANTINED if self.redrives >= QUARANTINE_AFTER else DeadLetterState.DEAD

    @property
    def redrives(self) -> int:
        """How often its message was redriven before."""
        return self.record.int_header(REDRIVES) or 0  # a client may have written an invalid number there

    @property
    def failed_position(self) -> str:
        """The position of the failed message, `topic/partition/offset`."""
        return self.record.header(DEAD_POSITION) or self.record.header(ORIGIN) or "unknown"

    @property
    def tenant(self) -> str | None:
        """Its tenant, if a trusted writer named it; None = the tenant of its topic."""
        topic = CATALOGUE.get(self.topic)
        return None if topic is not None and topic.public else self.record.header(TENANT)

    @property
    def topic(self) -> str:
        """The topic of the failed message."""
        return self.record.header(DEAD_TOPIC) or "unknown"

    @property
    def error(self) -> str:
        """The type of the error."""
        return self.record.header(DEAD_ERROR) or "unknown"

    @property
    def error_message(self) -> str:
        """The message of the error."""
        return self.record.header(DEAD_MESSAGE) or ""

    @property
    def dead_lettered_at(self) -> float:
        """When the message was dead-lettered, Unix seconds."""
        return self.record.timestamp

    @property
    def headers(self) -> Headers:
        """The original headers of the message."""
        return [item for item in self.record.headers if item[0] not in ADDED_HEADERS]


async def write_dead_letter(
    send: SendRecord, tier: str, record: Record, error: Exception, *, attempt: int, worker: str
) -> Position:
    """Write a message to the dead-letter topic, with the reason, and wait for the broker's acknowledgement.

    The message is stored whole. It can exceed the record limit if it arrived compressed, or if an operator has lowered
    the limit of the topic: then it is truncated, and a header has the original length. The same holds for a message
    that has almost `MAX_HEADERS` headers. For an undecodable batch, its raw bytes are stored.
    """
    # For a refused message the traceback has no information, and formatting it costs more than all the rest.
    refused = isinstance(error, MessageError)
    lines = traceback.format_exception_only(error) if refused else traceback.format_exception(error)
    headers = [item for item in record.headers if item[0] != ATTEMPT]
    reason: list[tuple[str, bytes | None]] = [
        (ATTEMPT, str(attempt).encode()),
        (DEAD_TOPIC, record.topic.encode()),
        (DEAD_POSITION, str(record.position).encode()),
        (DEAD_ERROR, type(error).__name__.encode()),
        (DEAD_MESSAGE, str(error)[:_MAX_MESSAGE].encode(errors="replace")),
        (DEAD_TRACEBACK, "".join(lines)[-_MAX_TRACEBACK:].encode(errors="replace")),
        (DEAD_WORKER, worker.encode()),
        (DEAD_AT, f"{time.time():.3f}".encode()),
    ]
    if record.header(ORIGIN) is None:
        reason.insert(0, (ORIGIN, str(record.position).encode()))
    if record.undecodable is not None:
        reason.append((DEAD_BATCH, f"{record.undecodable.first_offset}-{record.offset}".encode()))
    value = b"" if record.key is None and record.value is None else record.value  # Kafka requires one
    most = MAX_HEADERS - len(reason) - 1
    cut = [] if len(headers) <= most else [(DEAD_CUT, str(len(value or b"")).encode())]
    headers = headers[:most]
    try:
        return await send(dead_letter_topic_name(tier), value, key=record.key, headers=[*headers, *reason, *cut])
    except RecordTooLargeError as too_large:
        if too_large.limit is None:  # it cannot be truncated to an unknown limit
            raise
        key, value, kept = _truncate(record.key, value or b"", headers, reason, too_large.limit)
        return await send(dead_letter_topic_name(tier), value, key=key, headers=kept)


def _truncate(
    key: bytes | None, value: bytes, headers: Headers, reason: Headers, limit: int
) -> tuple[bytes | None, bytes, Headers]:
    """Truncate a dead letter to its topic's limit: half is for the reason, a quarter for the other headers."""
    kept: list[tuple[str, bytes | None]] = []
    left = limit // 4
    for name, raw in headers:
        item = (name[:_MAX_TRUNCATED_HEADER], raw and raw[:_MAX_TRUNCATED_HEADER])
        left -= size_of(None, b"", [item])
        if left < 0:
            break
        kept.append(item)
    share = limit // (2 * len(reason))
    kept += [(name, raw and (raw[-share:] if name == DEAD_TRACEBACK else raw[:share])) for name, raw in reason]
    kept.append((DEAD_CUT, str(len(value)).encode()))
    if key is not None and len(key) > _MAX_TRUNCATED_HEADER:
        key = key[: min(_MAX_TRUNCATED_HEADER, limit // 8)]
    room = limit - size_of(key, b"", kept) - _LENGTH_BYTES
    return key, value[: max(0, min(room, _MAX_TRUNCATED_VALUE))], kept


class DeadLetterIndex:
    """The dead letters of a tier, built from the records of its topic in order.

    A worker that dies between writing a dead letter and committing handles the message again and writes another. Both
    name the position of the same message, so they are one dead letter here, and share their state.

    Args:
        tier: The tier.
        whole: Keep the messages; otherwise only what lists and filters need.
        matches: Selects the dead letters to store; of others only the positions are stored.
    """

    def __init__(
        self, tier: str, *, whole: bool = False, matches: Callable[[DeadLetter], bool] = lambda _: True
    ) -> None:
        self._tier = tier
        self._whole = whole
        self._matches = matches
        self._entries: dict[str, DeadLetter] = {}
        self._others: dict[str, tuple[Position, ...]] = {}
        """The positions of the dead letters that do not match."""
        self._redriven: dict[str, str] = {}
        self._purged: set[str] = set()
        self._interned: dict[bytes, bytes] = {}

    def add(self, record: Record) -> None:
        """Add a record.

        Raises:
            InvalidMessageError: More dead letters match than the index can hold.
        """
        redriven, purged = record.header(DEAD_REDRIVEN), record.header(DEAD_PURGED)
        if record.header(DEAD_TOPIC) is not None or (redriven is None and purged is None):
            # `write_dead_letter` adds DEAD_TOPIC to every dead letter. So a message that has the header of a marker, by
            # mistake or forged, does not make its dead letter a marker.
            self._add(record)
        elif redriven is not None:
            self._redriven[(record.key or b"").decode(errors="replace")] = redriven
        else:
            self._purged.add((record.key or b"").decode(errors="replace"))

    def _add(self, record: Record) -> None:
        name = record.header(DEAD_POSITION) or str(record.position)
        first = self._entries.get(name)
        if first is not None:
            self._entries[name] = replace(first, duplicates=(*first.duplicates, record.position))
            return
        kept = record if self._whole else self._slim(record)
        entry = DeadLetter(self._tier, kept, None, self._others.pop(name, ()), size=len(record.value or b""))
        if not self._matches(entry):
            self._others[name] = entry.positions
        elif len(self._entries) < MAX_INDEXED:
            self._entries[name] = entry if self._whole else replace(entry, record=self._interned_headers(kept))
        else:
            detail = f"more than {MAX_INDEXED:,} dead letters of {self._tier} match: select fewer, for example by age"
            raise InvalidMessageError(detail, [FieldError(field="newer_than", detail=detail)])

    def _slim(self, record: Record) -> Record:
        last = {name: value and _prefix(value) for name, value in record.headers if name in INDEXED_HEADERS}
        return replace(record, key=indexed_key(record.key), value=None, headers=tuple(last.items()))

    def _interned_headers(self, record: Record) -> Record:
        """Return the record with interned header values: many dead letters share them."""
        headers = tuple((name, value and self._interned.setdefault(value, value)) for name, value in record.headers)
        return replace(record, headers=headers)

    def entries(self) -> list[DeadLetter]:
        """Return the matching dead letters with their state, oldest first, without the purged ones."""
        found = []
        for entry in self._entries.values():
            positions = [str(position) for position in entry.positions]
            if self._purged.isdisjoint(positions):
                sent = next((self._redriven[position] for position in positions if position in self._redriven), None)
                found.append(replace(entry, redriven=sent))
        return found

    def positions(self) -> set[Position]:
        """Return the positions of all dead letters that are not purged, whether they match or not."""
        every = [*(entry.positions for entry in self._entries.values()), *self._others.values()]
        return {position for group in every if self._purged.isdisjoint(map(str, group)) for position in group}


def _prefix(value: bytes) -> bytes:
    """Return the beginning of a text, cut between two characters."""
    return value if len(value) <= MAX_INDEXED_VALUE else value[:MAX_INDEXED_VALUE].decode(errors="ignore").encode()


def indexed_key(key: bytes | None) -> bytes | None:
    """Return a key as the index stores it: a long one as its hash."""
    return key if key is None or len(key) <= MAX_INDEXED_KEY else b"sha256:" + hashlib.sha256(key).digest()


def read(tier: str, records: Iterable[Record]) -> list[DeadLetter]:
    """Return the dead letters in a tier's topic with their messages, oldest first; see `DeadLetterIndex`."""
    index = DeadLetterIndex(tier, whole=True)
    for record in records:
        index.add(record)
    return index.entries()


def marker(position: Position, name: str, value: str) -> tuple[bytes, bytes, Headers]:
    """Return key, value and headers of the marker of the dead letter at a position."""
    return str(position).encode(), b"", [(name, value.encode())]
