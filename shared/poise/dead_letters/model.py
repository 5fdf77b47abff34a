"""Dead letters: messages that could not be handled, kept whole with the reason, and what became of them since.

A dead letter is the message as it was (key, value and headers, null stays null) with headers added that say why. The
topic only grows: when a letter is sent again, or purged, a marker is written behind it that names it. What a letter is
now is what the markers say. `dead_letter_admin` writes them.
"""

import hashlib
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from poise.contracts.envelope import DEADLINE
from poise.contracts.fault import FieldError
from poise.contracts.topics import CATALOGUE, dead_letter_topic_name
from poise.errors import InvalidMessageError, MessageError, RecordTooLargeError
from poise.kafka.record import Headers, Position, Record, SendRecord
from poise.kafka.record_size import size_of

ERROR: Final = "poise-dead-error"
MESSAGE: Final = "poise-dead-message"
TRACEBACK: Final = "poise-dead-traceback"
WORKER: Final = "poise-dead-worker"
AT: Final = "poise-dead-at"
CUT: Final = "poise-dead-cut"
UNDECODED: Final = "poise-dead-batch"
FROM: Final = "poise-dead-topic"
POSITION: Final = "poise-dead-position"
REDRIVEN: Final = "poise-dead-redriven"
PURGED: Final = "poise-dead-purged"
ORIGIN: Final = "poise-origin"
REDRIVES: Final = "poise-redrives"
ATTEMPT: Final = "poise-attempt"
TENANT: Final = "poise-tenant"

ADDED_HEADERS: Final = frozenset({ERROR, MESSAGE, TRACEBACK, WORKER, AT, FROM, POSITION, CUT, UNDECODED})
"""The headers that a letter has and its message had not."""
INDEXED_HEADERS: Final = frozenset(
    {ERROR, MESSAGE, WORKER, FROM, POSITION, CUT, UNDECODED, ORIGIN, REDRIVES, ATTEMPT, TENANT, DEADLINE}
)
"""The headers that lists, filters and decisions about a letter need."""
MAX_INDEXED_KEY: Final = 256
"""Bytes of a key that an index keeps as it is."""
MAX_INDEXED_VALUE: Final = 500
"""Bytes of a header's value that an index keeps: what an error said may be longer, no name of a topic or place is."""
MAX_INDEXED: Final = 100_000
"""Letters that an index keeps, some 2.5 kB each at most."""
_MAX_TRUNCATED_VALUE: Final = 1024 * 1024
_MAX_TRUNCATED_HEADER: Final = 1_024
_LENGTH_BYTES: Final = 8
"""Bytes that the length of a value may take."""
_MAX_TRACEBACK: Final = 16_000
_MAX_MESSAGE: Final = 4_000

QUARANTINE_AFTER: Final = 3
"""How often a message is sent again and dies again until it is sent again only by name, and by force."""


class DeadLetterState(StrEnum):
    """What a letter is now."""

    DEAD = "dead"
    QUARANTINED = "quarantined"
    """It was sent again so often, and died again each time, that only a person who insists sends it again."""
    REDRIVEN = "redriven"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One dead letter, as the list has it."""

    tier: str
    record: Record
    redriven: str | None
    """Where it was sent again, `topic/partition/offset`; None = it was not."""
    copies: tuple[Position, ...] = ()
    """Where else it stands: a message that is delivered twice, and dies twice, is one letter."""
    size: int = 0
    """Bytes of the message's body, which may not be in `record`."""

    @property
    def id(self) -> str:
        """What names it: `<tier>/<partition>/<offset>`."""
        return self._id(self.record.position)

    @property
    def ids(self) -> frozenset[str]:
        """Its id, and those of its copies: a worker's log may name any of them."""
        return frozenset(map(self._id, self.places))

    @property
    def places(self) -> tuple[Position, ...]:
        """Where it and its copies stand."""
        return (self.record.position, *self.copies)

    def _id(self, at: Position) -> str:
        return f"{self.tier}/{at.partition}/{at.offset}"

    @property
    def state(self) -> DeadLetterState:
        """What it is now."""
        if self.redriven is not None:
            return DeadLetterState.REDRIVEN
        return DeadLetterState.QUARANTINED if self.redrives >= QUARANTINE_AFTER else DeadLetterState.DEAD

    @property
    def redrives(self) -> int:
        """How often its message had been sent again before it died here."""
        return self.record.int_header(REDRIVES) or 0  # whatever a client wrote there may be why it is a dead letter

    @property
    def failed_at(self) -> str:
        """Where the copy stood that could not be handled, `topic/partition/offset`."""
        return self.record.header(POSITION) or self.record.header(ORIGIN) or "unknown"

    @property
    def tenant(self) -> str | None:
        """Whose it is, where a writer said so who may; None = its topic's tenant."""
        topic = CATALOGUE.get(self.topic)
        return None if topic is not None and topic.public else self.record.header(TENANT)

    @property
    def topic(self) -> str:
        """The topic that it could not be handled from."""
        return self.record.header(FROM) or "unknown"

    @property
    def error(self) -> str:
        """The type of the error."""
        return self.record.header(ERROR) or "unknown"

    @property
    def message(self) -> str:
        """What the error said."""
        return self.record.header(MESSAGE) or ""

    @property
    def at(self) -> float:
        """When it was set aside, unix seconds."""
        return self.record.timestamp

    @property
    def headers(self) -> Headers:
        """The message's own headers, as they were."""
        return [item for item in self.record.headers if item[0] not in ADDED_HEADERS]


async def write(
    send: SendRecord, tier: str, record: Record, error: Exception, *, attempt: int, worker: str
) -> Position:
    """Keep a message that cannot be handled, with the reason, and wait until the broker has it.

    It is kept whole. Only one that came compressed can be larger than any record may be, or any where an operator has
    the topic take less; of that one the beginning is kept, and a header says how long it was. Of a batch that cannot be
    decoded its own bytes are kept.
    """
    # Where a message was refused says nothing about it, and finding the lines costs more than all the rest.
    refused = isinstance(error, MessageError)
    told = traceback.format_exception_only(error) if refused else traceback.format_exception(error)
    headers = [item for item in record.headers if item[0] != ATTEMPT]
    reason: list[tuple[str, bytes | None]] = [
        (ATTEMPT, str(attempt).encode()),
        (FROM, record.topic.encode()),
        (POSITION, str(record.position).encode()),
        (ERROR, type(error).__name__.encode()),
        (MESSAGE, str(error)[:_MAX_MESSAGE].encode(errors="replace")),
        (TRACEBACK, "".join(told)[-_MAX_TRACEBACK:].encode(errors="replace")),
        (WORKER, worker.encode()),
        (AT, f"{time.time():.3f}".encode()),
    ]
    if record.header(ORIGIN) is None:
        reason.insert(0, (ORIGIN, str(record.position).encode()))
    if record.undecodable is not None:
        reason.append((UNDECODED, f"{record.undecodable.first_offset}-{record.offset}".encode()))
    value = b"" if record.key is None and record.value is None else record.value  # Kafka's client wants one of the two
    try:
        return await send(dead_letter_topic_name(tier), value, key=record.key, headers=[*headers, *reason])
    except RecordTooLargeError as too_large:
        key, value, kept = _truncate(record.key, value or b"", headers, reason, too_large.limit)
        return await send(dead_letter_topic_name(tier), value, key=key, headers=kept)


def _truncate(
    key: bytes | None, value: bytes, headers: Headers, reason: Headers, limit: int
) -> tuple[bytes | None, bytes, Headers]:
    """As much of a letter as its topic takes: half of that is for the reason, a quarter for the other headers."""
    kept: list[tuple[str, bytes | None]] = []
    left = limit // 4
    for name, raw in headers:
        item = (name[:_MAX_TRUNCATED_HEADER], raw and raw[:_MAX_TRUNCATED_HEADER])
        left -= size_of(None, b"", [item])
        if left < 0:
            break
        kept.append(item)
    share = limit // (2 * len(reason))
    kept += [(name, raw and (raw[-share:] if name == TRACEBACK else raw[:share])) for name, raw in reason]
    kept.append((CUT, str(len(value)).encode()))
    if key is not None and len(key) > _MAX_TRUNCATED_HEADER:
        key = key[: min(_MAX_TRUNCATED_HEADER, limit // 8)]
    room = limit - size_of(key, b"", kept) - _LENGTH_BYTES
    return key, value[: max(0, min(room, _MAX_TRUNCATED_VALUE))], kept


class DeadLetterIndex:
    """The dead letters of a tier, as the records of its topic tell, taken in their order.

    A worker that dies between writing a letter and committing handles the message again and writes another. Both name
    the position of the same record, so they are one letter here: what becomes of one becomes of the other.

    Args:
        tier: The tier.
        whole: Keep the messages; else of each what lists and filters need.
        fits: Which letters are kept; of others their places alone.
    """

    def __init__(self, tier: str, *, whole: bool = False, fits: Callable[[DeadLetter], bool] = lambda _: True) -> None:
        self._tier = tier
        self._whole = whole
        self._fits = fits
        self._letters: dict[str, DeadLetter] = {}
        self._others: dict[str, tuple[Position, ...]] = {}
        """Where those stand that do not fit."""
        self._redriven: dict[str, str] = {}
        self._purged: set[str] = set()
        self._same: dict[bytes, bytes] = {}

    def add(self, record: Record) -> None:
        """Take a record.

        Raises:
            InvalidMessageError: More letters fit than can be kept.
        """
        sent, away = record.header(REDRIVEN), record.header(PURGED)
        if record.header(FROM) is not None or (sent is None and away is None):
            # It is told by what `write` adds: a message may bring any header along, and `write` adds its own last.
            self._add(record)
        elif sent is not None:
            self._redriven[(record.key or b"").decode(errors="replace")] = sent
        else:
            self._purged.add((record.key or b"").decode(errors="replace"))

    def _add(self, record: Record) -> None:
        name = record.header(POSITION) or str(record.position)
        first = self._letters.get(name)
        if first is not None:
            self._letters[name] = replace(first, copies=(*first.copies, record.position))
            return
        kept = record if self._whole else self._slim(record)
        letter = DeadLetter(self._tier, kept, None, self._others.pop(name, ()), size=len(record.value or b""))
        if not self._fits(letter):
            self._others[name] = letter.places
        elif len(self._letters) < MAX_INDEXED:
            self._letters[name] = letter if self._whole else replace(letter, record=self._shared(kept))
        else:
            told = f"more than {MAX_INDEXED:,} dead letters of {self._tier} fit: choose fewer, for example by their age"
            raise InvalidMessageError(told, [FieldError(field="newer_than", detail=told)])

    def _slim(self, record: Record) -> Record:
        last = {name: value and _prefix(value) for name, value in record.headers if name in INDEXED_HEADERS}
        return replace(record, key=indexed_key(record.key), value=None, headers=tuple(last.items()))

    def _shared(self, record: Record) -> Record:
        """The same, with one copy of each value that many letters have."""
        headers = tuple((name, value and self._same.setdefault(value, value)) for name, value in record.headers)
        return replace(record, headers=headers)

    def letters(self) -> list[DeadLetter]:
        """The letters that fit, oldest first, each with what became of it; purged ones are left out."""
        found = []
        for letter in self._letters.values():
            places = [str(at) for at in letter.places]
            if self._purged.isdisjoint(places):
                sent = next((self._redriven[at] for at in places if at in self._redriven), None)
                found.append(replace(letter, redriven=sent))
        return found

    def places(self) -> set[Position]:
        """Where letters stand that are not purged, those that do not fit among them."""
        every = [*(letter.places for letter in self._letters.values()), *self._others.values()]
        return {at for places in every if self._purged.isdisjoint(map(str, places)) for at in places}


def _prefix(value: bytes) -> bytes:
    """The beginning of a text, cut between two characters."""
    return value if len(value) <= MAX_INDEXED_VALUE else value[:MAX_INDEXED_VALUE].decode(errors="ignore").encode()


def indexed_key(key: bytes | None) -> bytes | None:
    """A key as an index keeps it: a long one by what tells it from others."""
    return key if key is None or len(key) <= MAX_INDEXED_KEY else b"sha256:" + hashlib.sha256(key).digest()


def read(tier: str, records: Iterable[Record]) -> list[DeadLetter]:
    """The dead letters in a tier's topic, whole, oldest first; see `DeadLetterIndex`."""
    index = DeadLetterIndex(tier, whole=True)
    for record in records:
        index.add(record)
    return index.letters()


def marker(at: Position, name: str, value: str) -> tuple[bytes, bytes, Headers]:
    """Key, value and headers of the record that says what became of the letter that stands there."""
    return str(at).encode(), b"", [(name, value.encode())]
