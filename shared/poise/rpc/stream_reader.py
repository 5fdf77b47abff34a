"""Stream reader: turns numbered events, which may be lost, duplicated or restarted, into text in order.

Guarantee: at any time, the text since the last reset is a prefix of one attempt's text, without gaps. When the reply
arrives, it is the text of the reply; if necessary, the reader inserts a reset.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from pydantic import ValidationError

from poise.contracts.headers import KIND, SEQ, STREAM
from poise.contracts.message import Message
from poise.contracts.stream import Delta, End, Event, Reset, StreamPosition
from poise.kafka.record import Record
from poise.rpc.reply_address import ReplyAddress
from poise.rpc.stream_writer import DIFFERS, text_of
from poise.rpc.text_digest import TextDigest

RESTARTED: Final = "the answer was restarted"
LOST: Final = "a part of the stream was lost"
MAX_ATTEMPTS: Final = 64
"""Attempts to follow; the text of later ones is read from the reply."""
MAX_UNREAD_CHARS: Final = 1024 * 1024
"""Characters to buffer for a slow reader; beyond this, the text is read from the reply."""

_EVENTS: Final[dict[str, type[Event]]] = {event_type.kind: event_type for event_type in (Delta, Reset, End)}


def is_event(record: Record) -> bool:
    """Return whether a record is a stream event, of this version or a newer one; otherwise it is a reply."""
    kind = (record.header(KIND) or "").partition("/")[0]
    return any(kind == known.partition("/")[0] for known in _EVENTS)


def position_of(record: Record) -> StreamPosition | None:
    """Return the stream position that an event or a reply names; None if it names none."""
    stream, seq = record.header(STREAM), record.int_header(SEQ)
    return None if stream is None or seq is None else StreamPosition(stream, seq)


class StreamAssembler:
    """Orders the events of one call. Pure: events in, the events that the reader may see out.

    Kafka keeps the order of one sender, and a sender waits for the broker before another sender continues its stream.
    So an event whose number is not the next one is a duplicate, or follows a lost event. After a loss, the rest of the
    attempt is not shown.
    """

    def __init__(self) -> None:
        self._attempt: str | None = None
        self._previous: set[str] = set()
        self._next = 0
        self._intact = True
        """Whether no event of the attempt is missing or hidden."""
        self._ended = False
        self._visible = False
        """Whether the reader has text that no reset has revoked."""
        self._text = TextDigest()
        """That text."""

    def add(self, position: StreamPosition, event: Event | None) -> list[Event]:
        """Add an event, None if it cannot be read; return the events to show."""
        if self._ended or position.attempt in self._previous:
            return []
        if position.attempt != self._attempt and not self._begin(position.attempt):
            return []
        if position.seq != self._next or event is None or not self._intact:
            self._intact = self._intact and position.seq < self._next
            return []
        self._next += 1
        return self._shown(event, first=position.seq == 0)

    def _begin(self, attempt: str) -> bool:
        """Follow another attempt; an attempt that was replaced is not followed again."""
        if self._attempt is not None:
            self._previous.add(self._attempt)
        if len(self._previous) >= MAX_ATTEMPTS:
            self._intact = False
            return False
        self._attempt, self._next, self._intact = attempt, 0, True
        return True

    def _shown(self, event: Event, *, first: bool) -> list[Event]:
        restarted = first and self._visible and not isinstance(event, Reset)
        shown: list[Event] = [Reset(reason=RESTARTED)] if restarted else []
        if isinstance(event, End):  # not shown: the reply, which is next, ends the stream
            self._ended = True
            self._visible = self._visible and not restarted
            return shown
        if first or isinstance(event, Reset):
            self._text = TextDigest()
        if isinstance(event, Delta):
            self._text.add(event.text)
        self._visible = isinstance(event, Delta)
        return [*shown, event]

    def hide_rest(self) -> None:
        """Hide the rest of this attempt."""
        self._intact = False

    def complete(self, text: str | None, position: StreamPosition | None) -> list[Event]:
        """Return the events that turn the visible text into the text of the reply; `position` is the one it names."""
        whole = (
            self._intact
            and position is not None
            and position.attempt == self._attempt
            and position.seq == self._next - 1
        )
        if whole and (text is None or self._text.matches(text)):
            return []
        reason = DIFFERS if whole else RESTARTED if self._intact and position is None else LOST
        shown: list[Event] = [Reset(reason=reason)] if self._visible else []
        if text:
            shown.append(Delta(text=text))
        return shown


class StreamReader:
    """Buffers the events of a call's stream until they are read: `async for event in reader`.

    A slow reader costs at most the length of the answer: buffered text is one event, and a reset discards it.
    """

    def __init__(self) -> None:
        self._assembler = StreamAssembler()
        self._reset: Reset | None = None
        self._text: list[str] = []
        self._chars = 0
        self._closed = False
        self._changed = asyncio.Event()

    # -- for the call --------------------------------------------------------------------------------------------

    def begin_call(self, own: ReplyAddress) -> ReplyAddress:
        """Return the address for the text: that of the reply."""
        return own

    def receive(self, record: Record) -> None:
        """Receive a record with an event."""
        position = position_of(record)
        if position is None:
            return  # without a number it has no position: if it was part of the stream, the next event reveals the gap
        event_type = _EVENTS.get(record.header(KIND) or "")
        try:
            event = None if event_type is None else event_type.parse(record.value or b"")
        except ValidationError:
            event = None
        self._put(self._assembler.add(position, event))

    async def on_reply(self, reply: Message, position: StreamPosition | None) -> None:
        """Receive the reply."""
        self._put(self._assembler.complete(text_of(reply), position), bounded=False)

    def close(self) -> None:
        """End the iteration: no more events will arrive."""
        self._closed = True
        self._changed.set()

    def _put(self, events: list[Event], *, bounded: bool = True) -> None:
        for event in events:
            if isinstance(event, Reset):
                self._reset = event
                self._text, self._chars = [], 0
            elif isinstance(event, Delta):
                self._text.append(event.text)
                self._chars += len(event.text)
        if bounded and self._chars > MAX_UNREAD_CHARS:
            self._assembler.hide_rest()
            self._text, self._chars = [], 0
        self._changed.set()

    # -- for the reader -------------------------------------------------------------------------------------------

    async def __aiter__(self) -> AsyncIterator[Delta | Reset]:
        """Yield text and resets, until the reply has arrived or the reader is closed."""
        while True:
            while (event := self._pop()) is not None:
                yield event
            if self._closed:
                return
            self._changed.clear()
            await self._changed.wait()

    def _pop(self) -> Delta | Reset | None:
        if self._reset is not None:
            event, self._reset = self._reset, None
            return event
        if self._text:
            text, self._text, self._chars = "".join(self._text), [], 0
            return Delta(text=text)
        return None
