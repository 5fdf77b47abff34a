"""Streams, the sending side: an answer's words on their way to whoever asked for them as they come.

Events are numbered from 0 within one attempt, which has an id of its own; a new id means that what came before does
not count. A stream never fails the work: what the broker does not take leaves a gap, which the reader sees by the
numbers, and the reply has the whole text.

The reply decides. Before a stream ends, what it says is compared with the reply's text: where that is another one (a
redaction after a streamed draft), the stream takes its words back, and says the reply's.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final
from uuid import uuid4

from poise.contracts.ask import Rung
from poise.contracts.envelope import Envelope
from poise.contracts.message import Message
from poise.contracts.stream import Delta, End, Event, Reset, StreamPosition
from poise.errors import PoiseError
from poise.kafka.record import SendRecord
from poise.rpc.encoding import JSON, encode, encode_headers
from poise.rpc.reply_address import ReplyAddress
from poise.rpc.text_digest import TextDigest

log = logging.getLogger(__name__)

DIFFERS: Final = "the answer is another one than was streamed"


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """How words are put together into events."""

    interval: float = 0.015
    """Seconds between two events; the first goes at once."""
    event: int = 4_096
    """Characters of one event at most; as many do not wait for the interval."""
    buffer: int = 65_536
    """Characters that may wait for the broker; whoever writes more waits too."""


class Coalescer:
    """Puts words together, by time and size. Pure: told the time, seconds."""

    def __init__(self, limits: StreamLimits) -> None:
        self._limits = limits
        self._parts: list[str] = []
        self._chars = 0
        self._due = 0.0

    def add(self, text: str) -> None:
        """Put words behind those that wait."""
        self._parts.append(text)
        self._chars += len(text)

    def clear(self) -> None:
        """Let what waits go: it does not count any more."""
        self._parts, self._chars = [], 0

    @property
    def empty(self) -> bool:
        """Whether nothing waits."""
        return self._chars == 0

    @property
    def event_ready(self) -> bool:
        """Whether an event's worth waits."""
        return self._chars >= self._limits.event

    @property
    def full(self) -> bool:
        """Whether more waits than may."""
        return self._chars > self._limits.buffer

    def wait(self, now: float) -> float:
        """Seconds until what waits should go; 0 = now."""
        return 0.0 if self.event_ready else max(0.0, self._due - now)

    def take(self, now: float) -> str:
        """What goes next, one event's worth."""
        text = "".join(self._parts)
        taken, rest = text[: self._limits.event], text[self._limits.event :]
        self._parts, self._chars = ([rest] if rest else []), len(rest)
        self._due = now + self._limits.interval
        return taken


@dataclass(slots=True)
class _Attempt:
    id: str = field(default_factory=lambda: uuid4().hex)
    next: int = 0
    ended: bool = False
    lost: bool = False
    """The broker did not take an event: there is no use in the others."""
    text: TextDigest | None = field(default_factory=TextDigest)
    """What it says; None = another one streamed it, and did not tell."""


class StreamWriter:
    """Where a handler writes its answer's words as they come; `context.stream`, None where nobody asked for it.

    Args:
        to: The asker's address.
        send: Sends a record.
        run: The run, for whoever looks at the topic.
        ends: Whether the handler's reply goes to the asker too: then its words count, and an `end` says so.
        limits: How words are put together.
        clock: Tells the time, seconds.
    """

    def __init__(
        self,
        to: ReplyAddress,
        send: SendRecord,
        *,
        run: str,
        ends: bool,
        limits: StreamLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.to = to
        self._send = send
        self._run = run
        self._ends = ends
        self._clock = clock
        self._waiting = Coalescer(limits or StreamLimits())
        self._attempt = _Attempt()
        self._completed: Message | None = None
        self._visible = False
        """Whether words may have gone out, in whatever attempt, that no reset has taken back."""
        self._pump: asyncio.Task[None] | None = None
        self._flushing = False
        self._hurry = asyncio.Event()
        self._taken = asyncio.Event()

    # -- for handlers ---------------------------------------------------------------------------------------------

    async def write(self, text: str) -> None:
        """Send words on. Returns at once, unless so many wait for the broker that no more may."""
        if not text:
            return
        self._visible = True
        if self._attempt.text is not None:
            self._attempt.text.add(text)
        self._waiting.add(text)
        self._start_pump()
        if self._waiting.event_ready:
            self._hurry.set()
        while self._waiting.full:
            self._taken.clear()
            self._start_pump()
            await self._taken.wait()

    async def reset(self, reason: str, *, rung: Rung | None = None) -> None:
        """Say that what was streamed so far, by whomever, does not count, and why."""
        self.start_attempt()
        await self._flush()
        await self._emit(Reset(reason=reason, rung=rung))
        self._visible = False

    # -- for the layer --------------------------------------------------------------------------------------------

    def start_attempt(self) -> None:
        """Begin a new attempt: the reader starts over when its first event comes."""
        self._attempt = _Attempt()
        self._completed = None
        self._waiting.clear()

    def address(self, _own: ReplyAddress) -> ReplyAddress:
        """Where the words of a call go whose reply this handler waits for: straight to its own asker."""
        self.start_attempt()  # should nothing come of the call, what the other has sent is superseded by our next event
        self._visible = True
        return self.to

    async def on_reply(self, reply: Message, mark: StreamPosition | None) -> None:
        """Go on where the called one ended; where it streamed nothing, its whole text is the stream."""
        text = text_of(reply)
        if mark is not None:
            self._attempt = _Attempt(mark.stream, mark.last + 1, text=None if text is None else TextDigest(text))
        elif text:
            await self.write(text)

    def completed(self, reply: Message) -> None:
        """The handler is done: its words are those of this reply, and of no other."""
        self._completed = reply

    async def finish(self, reply: Message) -> StreamPosition | None:
        """Send what waits, and the `end`; then the reply may be sent.

        Args:
            reply: What is going to be sent. A fault, or what another copy of the message got, has no words here.

        Returns:
            What the reply is to name; None where the reply alone counts.
        """
        if reply is not self._completed:
            self.start_attempt()
            return None
        await self._flush()
        text = text_of(reply)
        if text is not None and not self._matches(text):
            if self._visible:
                await self.reset(DIFFERS)
            await self.write(text)
            await self._flush()
        attempt = self._attempt
        if attempt.next and self._ends and not attempt.ended:
            attempt.ended = True
            await self._emit(End())
        return StreamPosition(attempt.id, attempt.next - 1) if attempt.next and not attempt.lost else None

    def _matches(self, text: str) -> bool:
        """Whether who has read the stream has these words, and no others; or has read none."""
        attempt = self._attempt
        if not attempt.next:
            return not self._visible
        return attempt.text is not None and attempt.text.matches(text)

    # -- sending --------------------------------------------------------------------------------------------------

    def _start_pump(self) -> None:
        if self._pump is None or self._pump.done():
            self._pump = asyncio.create_task(self._send_waiting())

    async def _send_waiting(self) -> None:
        """Send while there is something to send, one event after the other: so they keep their order."""
        try:
            while not self._waiting.empty:
                wait = self._waiting.wait(self._clock())
                if wait and not self._flushing:
                    await self._gather(wait)
                if not self._waiting.empty:  # a new attempt may have begun meanwhile
                    text = self._waiting.take(self._clock())
                    self._taken.set()
                    await self._emit(Delta(text=text))
        finally:
            self._taken.set()

    async def _gather(self, seconds: float) -> None:
        """Let words gather, unless somebody is in a hurry."""
        self._hurry.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._hurry.wait()
        except TimeoutError:
            pass  # the usual end of it

    async def _flush(self) -> None:
        self._flushing = True
        try:
            while self._pump is not None and not (self._pump.done() and self._waiting.empty):
                self._start_pump()
                self._hurry.set()
                await asyncio.wait({self._pump})
        finally:
            self._flushing = False

    async def _emit(self, event: Event) -> None:
        attempt = self._attempt
        if attempt.lost:
            return
        number, attempt.next = attempt.next, attempt.next + 1
        envelope = Envelope(
            correlation_id=self.to.correlation_id,
            content_type=JSON,
            run=self._run,
            kind=event.kind,
            stream=attempt.id,
            seq=number,
        )
        to = self.to
        try:
            body, headers = encode(event), encode_headers(envelope)
            await self._send(to.topic, body, key=None, headers=headers, partition=to.partition)
        except PoiseError as error:
            attempt.lost = True
            log.warning("run %s: its stream is given up, its reply will have the text: %s", self._run, error)
        except Exception:  # a bug: a stream never fails the work
            attempt.lost = True
            log.exception("run %s: its stream is given up, its reply will have the text", self._run)


def text_of(reply: Message) -> str | None:
    """The words of a reply; None for one that is not made of words."""
    text = getattr(reply, "text", None)
    return text if isinstance(text, str) else None
