"""Kafka records and positions, independent of a client library's types."""

import time
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from poise.contracts.integers import MAX_INTEGER, read_integer

Headers = Sequence[tuple[str, bytes | None]]
"""A record's headers as Kafka has them: names may repeat, and values may be null."""

MIN_TIMESTAMP: Final = 946_684_800_000
"""Unix milliseconds of 2000-01-01. An earlier record time is invalid: in seconds, or 0, or -1 as in old formats."""


class RawRecord(Protocol):
    """A record as a client library returns it; timestamps in unix milliseconds."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None

    @property
    def timestamp(self) -> int | None:
        """None in the oldest message format, -1 if the client gave none."""

    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]:
        """Values may be null, despite aiokafka's types: clients of other libraries write such headers."""


@dataclass(frozen=True, slots=True)
class Position:
    """Where a record is in Kafka."""

    topic: str
    partition: int
    offset: int
    timestamp: float = field(default=0.0, compare=False)
    """Unix seconds, if known; not part of the identity."""

    def __str__(self) -> str:
        """Return `topic/partition/offset`, the format of the header `poise-origin`."""
        return f"{self.topic}/{self.partition}/{self.offset}"


@dataclass(frozen=True, slots=True)
class UndecodableBatch:
    """A batch of records that cannot be decoded."""

    first_offset: int
    reason: str
    """Why it cannot be decoded."""


class SendRecord(Protocol):
    """Sends one record as it is and waits for the broker's acknowledgement."""

    def __call__(
        self, topic: str, value: bytes | None, *, key: bytes | None, headers: Headers, partition: int | None = None
    ) -> Awaitable[Position]: ...


@dataclass(frozen=True, slots=True)
class Record:
    """A record of a topic, or a whole batch that cannot be decoded."""

    topic: str
    partition: int
    offset: int
    timestamp: float
    """When it was written, unix seconds; if its own time is invalid, when it was read."""
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    undecodable: UndecodableBatch | None = None
    """If set, `value` is the batch's bytes and `offset` its last one; key and headers are unknown."""
    log_time: int | None = field(default=None, compare=False)
    """Its time in the log, unix milliseconds, from 0 to `MAX_INTEGER`; None = derived from `timestamp`."""

    @classmethod
    def of(cls, raw: RawRecord) -> "Record":
        """Convert a record of the client library."""
        log_time = min(max(0, raw.timestamp or 0), MAX_INTEGER)
        written = write_time(log_time, time.time())
        headers, undecodable = tuple(raw.headers or ()), getattr(raw, "undecodable", None)
        return cls(raw.topic, raw.partition, raw.offset, written, raw.key, raw.value, headers, undecodable, log_time)

    @property
    def position(self) -> Position:
        """Where the record is."""
        return Position(self.topic, self.partition, self.offset)

    @property
    def log_time_ms(self) -> int:
        """The record's time in the log, unix milliseconds: the same each time it is read."""
        return round(self.timestamp * 1_000) if self.log_time is None else self.log_time

    @property
    def identity(self) -> tuple[str, int, int, float]:
        """What a run id is derived from, see `derive_run_id`: topic, partition, offset, and the time in the log."""
        return self.topic, self.partition, self.offset, self.log_time_ms / 1_000

    def raw_header(self, name: str) -> bytes | None:
        """Return the last header with a name; None if it is absent or null."""
        for key, value in reversed(self.headers):
            if key == name:
                return value
        return None

    def header(self, name: str) -> str | None:
        """Return the last header with a name, invalid UTF-8 replaced; None if it is absent or null."""
        value = self.raw_header(name)
        return None if value is None else value.decode(errors="replace")

    def int_header(self, name: str, maximum: int = MAX_INTEGER) -> int | None:
        """Return the integer in the last header with a name; None if it holds none."""
        return read_integer(self.raw_header(name), maximum)


def write_time(log_time: int, now: float) -> float:
    """Return when a record was written, unix seconds.

    A time before 2000, or after the record was read, is a mistake of the client's clock or unit. Then the time of
    reading is returned, which is the only known one.

    Args:
        log_time: The record's own time, unix milliseconds.
        now: When it was read, unix seconds.
    """
    seconds = log_time / 1_000
    return seconds if log_time >= MIN_TIMESTAMP and seconds <= now else now
