"""Stream: the text of an answer while it is generated. Provisional: the reply names the valid stream."""

from dataclasses import dataclass
from typing import ClassVar

from poise.contracts.ask import Rung
from poise.contracts.message import Message


class Delta(Message):
    """More text, to append to the text since the last reset."""

    kind: ClassVar[str] = "delta/1"

    text: str


class Reset(Message):
    """Discard the text so far."""

    kind: ClassVar[str] = "reset/1"

    reason: str
    rung: Rung | None = None
    """The rung of the text that follows; absent if not decided yet."""


class End(Message):
    """The end of a stream. Only the reply follows, which names this stream if it is valid."""

    kind: ClassVar[str] = "end/1"


Event = Delta | Reset | End


@dataclass(frozen=True, slots=True)
class StreamPosition:
    """An event of a stream: its attempt and its number."""

    attempt: str
    """The id of the attempt, from the header `poise-stream`."""
    seq: int
    """The number of the event within the attempt, from 0."""
