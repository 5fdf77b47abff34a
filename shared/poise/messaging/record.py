"""A Kafka record, and the place where one landed, free of any client library's types."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol


class RawRecord(Protocol):
    """What a client library hands out; timestamps in unix milliseconds."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None

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
class Undecodable:
    """That a batch of records cannot be decoded."""

    first_offset: int
    """Where it begins."""
    reason: str


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a topic; or, in its place, a batch that cannot be decoded."""

    topic: str
    partition: int
    offset: int
    timestamp: float
    """Unix seconds."""
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    """A null one is read as an empty one."""
    undecodable: Undecodable | None = None
    """Set: `value` is a batch as the broker has it, `offset` its last one; key and headers are not known."""

    @classmethod
    def of(cls, raw: RawRecord) -> "Record":
        """The record that the client library handed out."""
        headers = tuple((name, b"" if value is None else value) for name, value in raw.headers or ())
        undecodable = getattr(raw, "undecodable", None)
        return cls(
            raw.topic, raw.partition, raw.offset, raw.timestamp / 1_000, raw.key, raw.value, headers, undecodable
        )

    @property
    def position(self) -> Position:
        """Where it stands."""
        return Position(self.topic, self.partition, self.offset)

    def header(self, name: str) -> str | None:
        """The last header of that name, undecodable bytes replaced; None if there is none."""
        for key, value in reversed(self.headers):
            if key == name:
                return value.decode(errors="replace")
        return None
