"""Streams, the reading side: from numbered events that may be lost, doubled or begun anew, to words in order.

What a reader is promised: the words since the last reset are at any time the beginning of one attempt's text, never
with a piece missing; and when the reply comes, they are the text that counts. Where that takes a reset, one is made.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from pydantic import ValidationError

from poise.contracts.envelope import KIND, SEQ, STREAM
from poise.contracts.message import Message
from poise.contracts.stream import Delta, End, Event, Reset, StreamPosition
from poise.kafka.record import Record
from poise.rpc.reply_address import ReplyAddress
from poise.rpc.stream_writer import DIFFERS, text_of
from poise.rpc.text_digest import TextDigest

RESTARTED: Final = "the answer was begun anew"
LOST: Final = "a part of the stream was lost"
MAX_ATTEMPTS: Final = 64
"""Later attempts are not followed: the reply has the text."""
MAX_UNREAD_CHARS: Final = 1024 * 1024
"""Characters that wait for a slow reader; of more, the reply has the text."""

_EVENTS: Final[dict[str, type[Event]]] = {kind.kind: kind for kind in (Delta, Reset, End)}


def is_event(record: Record) -> bool:
    """Whether a record belongs to a stream, of this version or a newer one; otherwise it is a reply."""
    kind = (record.header(KIND) or "").partition("/")[0]
    return any(kind == known.partition("/")[0] for known in _EVENTS)


def position_of(record: Record) -> StreamPosition | None:
    """What an event or a reply says of the stream it belongs to."""
    stream, seq = record.header(STREAM), record.int_header(SEQ)
    return None if stream is None or seq is None else StreamPosition(stream, seq)


class StreamAssembler:
    """The order of one call's events. Pure: events in, what the reader may see out.

    Kafka keeps the order of one sender, and each waits for the broker before another goes on in its place: a number
    that is not the next is a repetition, or follows a loss. After a loss nothing more of that attempt is shown.
    """

    def __init__(self) -> None:
        self._stream: str | None = None
        self._past: set[str] = set()
        self._next = 0
        self._whole = True
        self._ended = False
        self._said = False
        """Whether the reader has words that no reset has taken back."""
        self._text = TextDigest()
        """Those words."""

    def take(self, mark: StreamPosition, event: Event | None) -> list[Event]:
        """Take an event; None is one that cannot be read."""
        if self._ended or mark.stream in self._past:
            return []
        if mark.stream != self._stream and not self._begin(mark.stream):
            return []
        if mark.last != self._next or event is None or not self._whole:
            self._whole = self._whole and mark.last < self._next
            return []
        self._next += 1
        return self._shown(event, first=mark.last == 0)

    def _begin(self, stream: str) -> bool:
        """Follow another attempt; those of which something was seen do not come back."""
        if self._stream is not None:
            self._past.add(self._stream)
        if len(self._past) >= MAX_ATTEMPTS:
            self._whole = False
            return False
        self._stream, self._next, self._whole = stream, 0, True
        return True

    def _shown(self, event: Event, *, first: bool) -> list[Event]:
        anew = first and self._said and not isinstance(event, Reset)
        shown: list[Event] = [Reset(reason=RESTARTED)] if anew else []
        if isinstance(event, End):  # not shown: the reply, which is next, is the end
            self._ended = True
            self._said = self._said and not anew
            return shown
        if first or isinstance(event, Reset):
            self._text = TextDigest()
        if isinstance(event, Delta):
            self._text.add(event.text)
        self._said = isinstance(event, Delta)
        return [*shown, event]

    def abandon(self) -> None:
        """Show no more of this attempt."""
        self._whole = False

    def finish(self, text: str | None, mark: StreamPosition | None) -> list[Event]:
        """Take the reply: its words, and the stream that it names. What is missing is made good."""
        whole = self._whole and mark is not None and mark.stream == self._stream and mark.last == self._next - 1
        if whole and (text is None or self._text.matches(text)):
            return []
        reason = DIFFERS if whole else RESTARTED if self._whole and mark is None else LOST
        shown: list[Event] = [Reset(reason=reason)] if self._said else []
        if text:
            shown.append(Delta(text=text))
        return shown


class StreamReader:
    """What a call's stream has brought and its reader has not read yet: `async for event in reader`.

    A slow reader costs no more than the answer is long: words that wait are one event, and a reset lets them go.
    """

    def __init__(self) -> None:
        self._assembler = StreamAssembler()
        self._reset: Reset | None = None
        self._text: list[str] = []
        self._chars = 0
        self._closed = False
        self._changed = asyncio.Event()

    # -- for the layer --------------------------------------------------------------------------------------------

    def address(self, own: ReplyAddress) -> ReplyAddress:
        """Where the words go: to where the reply goes."""
        return own

    def take(self, record: Record) -> None:
        """Take an event as it came."""
        mark = position_of(record)
        if mark is None:
            return  # no number, no place: if it was one of ours, the next one shows that it is missing
        kind = _EVENTS.get(record.header(KIND) or "")
        try:
            event = None if kind is None else kind.parse(record.value or b"")
        except ValidationError:
            event = None
        self._put(self._assembler.take(mark, event))

    async def on_reply(self, reply: Message, mark: StreamPosition | None) -> None:
        """Take the reply."""
        self._put(self._assembler.finish(text_of(reply), mark), bounded=False)

    def close(self) -> None:
        """Nothing more comes."""
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
            self._assembler.abandon()
            self._text, self._chars = [], 0
        self._changed.set()

    # -- for the reader -------------------------------------------------------------------------------------------

    async def __aiter__(self) -> AsyncIterator[Delta | Reset]:
        """Words and resets, until the reply is there or nothing more can come."""
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
