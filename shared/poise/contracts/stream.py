"""Stream: an answer's words as they come. Provisional, until the reply says which of them count."""

from dataclasses import dataclass
from typing import ClassVar

from poise.contracts.ask import Rung
from poise.contracts.message import Message


class Delta(Message):
    """More words, to be put behind those that came since the last reset."""

    kind: ClassVar[str] = "delta/1"

    text: str


class Reset(Message):
    """What came so far does not count: start over."""

    kind: ClassVar[str] = "reset/1"

    reason: str
    rung: Rung | None = None
    """The step of the ladder that the words which follow stand on; absent where that is not decided yet."""


class End(Message):
    """Nothing follows but the reply, which names this stream if its words count."""

    kind: ClassVar[str] = "end/1"


Event = Delta | Reset | End


@dataclass(frozen=True, slots=True)
class StreamPosition:
    """How far a stream came."""

    stream: str
    """One attempt's id."""
    last: int
    """The number of its last event; the first is 0."""
