"""A Kafka record, and the place where one landed, free of any client library's types."""

import time
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from poise.contracts.integers import MAX_INTEGER, read_integer

Headers = Sequence[tuple[str, bytes | None]]
"""A record's headers as Kafka has them: names may repeat, and values may be null."""

MIN_TIMESTAMP: Final = 946_684_800_000
"""Unix milliseconds of 2000-01-01. An earlier record time is none: it is in seconds, or 0, or -1 as in old formats."""


class RawRecord(Protocol):
    """What a client library hands out; timestamps in unix milliseconds."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None

    @property
    def timestamp(self) -> int | None:
        """None in the oldest format of messages, -1 where a client gave none."""

    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]:
        """A client of another library may write null ones, whatever aiokafka's types say."""


@dataclass(frozen=True, slots=True)
class Position:
    """Where a published record landed."""

    topic: str
    partition: int
    offset: int
    timestamp: float = field(default=0.0, compare=False)
    """Unix seconds, where it is known: a place tells records apart without it."""

    def __str__(self) -> str:
        """`topic/partition/offset`, as `poise-origin` has it."""
        return f"{self.topic}/{self.partition}/{self.offset}"


@dataclass(frozen=True, slots=True)
class UndecodableBatch:
    """That a batch of records cannot be decoded."""

    first_offset: int
    """Where it begins."""
    reason: str


class SendRecord(Protocol):
    """Sends one record as it is and waits for the broker's acknowledgement."""

    def __call__(
        self, topic: str, value: bytes | None, *, key: bytes | None, headers: Headers, partition: int | None = None
    ) -> Awaitable[Position]: ...


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a topic; or, in its place, a batch that cannot be decoded."""

    topic: str
    partition: int
    offset: int
    timestamp: float
    """When it was written, unix seconds; where its own time cannot be that, when it was read."""
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    undecodable: UndecodableBatch | None = None
    """Set: `value` is a batch as the broker has it, `offset` its last one; key and headers are not known."""
    log_time: int | None = field(default=None, compare=False)
    """The time that the log has for it, unix milliseconds, from 0 to `MAX_INTEGER`; None = `timestamp` is it."""

    @classmethod
    def of(cls, raw: RawRecord) -> "Record":
        """The record that the client library handed out."""
        at = min(max(0, raw.timestamp or 0), MAX_INTEGER)
        written = write_time(at, time.time())
        headers, undecodable = tuple(raw.headers or ()), getattr(raw, "undecodable", None)
        return cls(raw.topic, raw.partition, raw.offset, written, raw.key, raw.value, headers, undecodable, at)

    @property
    def position(self) -> Position:
        """Where it stands."""
        return Position(self.topic, self.partition, self.offset)

    @property
    def log_time_ms(self) -> int:
        """The time in the log, unix milliseconds: the same however often it is read, and whenever."""
        return round(self.timestamp * 1_000) if self.log_time is None else self.log_time

    @property
    def identity(self) -> tuple[str, int, int, float]:
        """What a run id is made of, see `run_id_of`: topic, partition, offset, and the time in the log."""
        return self.topic, self.partition, self.offset, self.log_time_ms / 1_000

    def raw_header(self, name: str) -> bytes | None:
        """The last header of that name; None if there is none, or it is null."""
        for key, value in reversed(self.headers):
            if key == name:
                return value
        return None

    def header(self, name: str) -> str | None:
        """The last header of that name, undecodable bytes replaced; None if there is none, or it is null."""
        value = self.raw_header(name)
        return None if value is None else value.decode(errors="replace")

    def int_header(self, name: str, maximum: int = MAX_INTEGER) -> int | None:
        """The whole number in the last header of that name; None if it holds none."""
        return read_integer(self.raw_header(name), maximum)


def write_time(log_time: int, now: float) -> float:
    """When a record was written, unix seconds.

    A time before 2000, or after the record was read, is a mistake of the client's clock or of its unit: then the time
    of reading stands in, which is the only one that is known.

    Args:
        log_time: The record's own time, unix milliseconds.
        now: When it was read, unix seconds.
    """
    at = log_time / 1_000
    return at if log_time >= MIN_TIMESTAMP and at <= now else now
