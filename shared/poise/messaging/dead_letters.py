"""Dead letters: messages that could not be handled, kept whole with the reason, listed, shown and sent again.

A dead letter is the message as it was (key, value and headers, null stays null) with headers added that say why. When
one is sent again, a marker is written to the same topic, so that the list knows, and a second `redrive` passes it over.
"""

import time
import traceback
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from poise.contracts.envelope import DEADLINE, REPLY_PARTITION, STREAM_TO
from poise.contracts.topics import CATALOGUE, dead_topic
from poise.errors import TerminalError
from poise.messaging.record import Position, Record

ERROR: Final = "poise-dead-error"
MESSAGE: Final = "poise-dead-message"
TRACEBACK: Final = "poise-dead-traceback"
WORKER: Final = "poise-dead-worker"
AT: Final = "poise-dead-at"
FROM: Final = "poise-dead-topic"
REDRIVEN: Final = "poise-dead-redriven"
ORIGIN: Final = "poise-origin"
REDRIVES: Final = "poise-redrives"
ATTEMPT: Final = "poise-attempt"

_ADDED: Final = frozenset({ERROR, MESSAGE, TRACEBACK, WORKER, AT, FROM})
_NOT_SENT_AGAIN: Final = _ADDED | {
    "reply_to",
    "correlation_id",
    REPLY_PARTITION,
    STREAM_TO,
    DEADLINE,
    ATTEMPT,
    REDRIVES,
}
_LONGEST_TRACEBACK: Final = 16_000
LONGEST_NUMBER: Final = 18
"""Digits, as the envelope reads them."""

Headers = list[tuple[str, bytes]]


class Send(Protocol):
    """Sends one record as it is and waits for the broker's acknowledgement."""

    def __call__(
        self, topic: str, value: bytes | None, *, key: bytes | None, headers: Headers, partition: int | None = None
    ) -> Awaitable[Position]: ...


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One dead letter, as the list has it."""

    tier: str
    record: Record
    redriven: str | None
    """Where it was sent again, `topic/partition/offset`; None = it was not."""

    @property
    def id(self) -> str:
        """What names it: `<tier>/<partition>/<offset>`."""
        return f"{self.tier}/{self.record.partition}/{self.record.offset}"

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
        return [(name, value) for name, value in self.record.headers if name not in _ADDED]


async def write(send: Send, tier: str, record: Record, error: Exception, *, attempt: int, worker: str) -> Position:
    """Keep a message that cannot be handled, with the reason, and wait until the broker has it."""
    told = "".join(traceback.format_exception(error))[-_LONGEST_TRACEBACK:]
    headers = list(record.headers)
    if record.header(ORIGIN) is None:
        headers.append((ORIGIN, str(record.position).encode()))
    headers = [item for item in headers if item[0] != ATTEMPT]
    headers += [
        (ATTEMPT, str(attempt).encode()),
        (FROM, record.topic.encode()),
        (ERROR, type(error).__name__.encode()),
        (MESSAGE, str(error).encode(errors="replace")),
        (TRACEBACK, told.encode(errors="replace")),
        (WORKER, worker.encode()),
        (AT, f"{time.time():.3f}".encode()),
    ]
    value = b"" if record.key is None and record.value is None else record.value  # Kafka's client wants one of the two
    return await send(dead_topic(tier), value, key=record.key, headers=headers)


def read(tier: str, records: Iterable[Record]) -> list[DeadLetter]:
    """The dead letters in a tier's topic, oldest first, each with whether it was sent again."""
    letters: dict[Position, Record] = {}
    redriven: dict[str, str] = {}
    for record in records:
        marker = record.header(REDRIVEN)
        if marker is None or record.header(FROM) is not None:  # a letter may bring a header of that name along
            letters[record.position] = record
        else:
            redriven[(record.key or b"").decode(errors="replace")] = marker
    return [DeadLetter(tier, record, redriven.get(str(position))) for position, record in letters.items()]


def to_send_again(letter: DeadLetter) -> Headers:
    """The headers of the message when it is sent again: nobody waits for it, it has a new deadline, and it counts."""
    before = letter.record.header(REDRIVES) or ""  # whatever a client wrote there may be why it is a dead letter
    redrives = (int(before) if before.isascii() and before.isdigit() and len(before) <= LONGEST_NUMBER else 0) + 1
    kept = [(name, value) for name, value in letter.record.headers if name not in _NOT_SENT_AGAIN]
    return [*kept, (REDRIVES, str(redrives).encode())]


def check(letter: DeadLetter) -> None:
    """Whether a dead letter can be sent again.

    Raises:
        TerminalError: Its topic is not one of Poise's, or it was sent again already.
    """
    if letter.redriven is not None:
        raise TerminalError(f"{letter.id} was sent again already, to {letter.redriven}")
    if letter.topic not in CATALOGUE:
        raise TerminalError(f"{letter.id} came from {letter.topic}, which is no topic of Poise's")


async def redrive(send: Send, letter: DeadLetter, partition_of: Callable[[str, bytes], Awaitable[int]]) -> Position:
    """Send a dead letter to the topic it came from, then mark it as sent.

    Args:
        send: Sends a record.
        letter: The dead letter.
        partition_of: The partition of a key in a topic.

    Raises:
        TerminalError: Its topic is not one of Poise's, or it was sent again already.
    """
    check(letter)
    key = letter.record.key
    partition = await partition_of(letter.topic, key) if key is not None else None
    sent = await send(letter.topic, letter.record.value, key=key, headers=to_send_again(letter), partition=partition)
    marker = [(REDRIVEN, str(sent).encode())]
    await send(dead_topic(letter.tier), b"", key=str(letter.record.position).encode(), headers=marker)
    return sent


def matching(letters: Sequence[DeadLetter], *, error: str | None, ids: Sequence[str]) -> list[DeadLetter]:
    """Those of an error type and among the given ids, where either is given."""
    return [letter for letter in letters if (error is None or letter.error == error) and (not ids or letter.id in ids)]
