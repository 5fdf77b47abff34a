"""Stream writer: sends the text of an answer to its caller while it is generated.

Events are numbered from 0 within one attempt, which has an id; a new id revokes the text of the attempts before it. A
stream never fails the work: an event that the broker does not acknowledge leaves a gap in the numbers, which the reader
detects, and the reply has the whole text.

The reply is authoritative. Before a stream ends, its text is compared with the reply's. If they differ (a redaction
after a streamed draft), the stream sends a reset and then the text of the reply.
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

DIFFERS: Final = "the answer differs from the streamed text"


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """How text is combined into events."""

    interval: float = 0.015
    """Seconds between two events; the first is sent immediately."""
    event: int = 4_096
    """Characters of one event at most; a full event does not wait for the interval."""
    buffer: int = 65_536
    """Characters that may wait for the broker; beyond this, `write` waits."""


class Coalescer:
    """Combines text by time and size. Pure: the time is passed in, seconds."""

    def __init__(self, limits: StreamLimits) -> None:
        self._limits = limits
        self._parts: list[str] = []
        self._chars = 0
        self._due = 0.0

    def add(self, text: str) -> None:
        """Append text to the waiting text."""
        self._parts.append(text)
        self._chars += len(text)

    def clear(self) -> None:
        """Discard the waiting text."""
        self._parts, self._chars = [], 0

    @property
    def empty(self) -> bool:
        """Whether no text waits."""
        return self._chars == 0

    @property
    def event_ready(self) -> bool:
        """Whether the text of a full event waits."""
        return self._chars >= self._limits.event

    @property
    def full(self) -> bool:
        """Whether more text waits than the buffer allows."""
        return self._chars > self._limits.buffer

    def wait(self, now: float) -> float:
        """Return the seconds until the next event is due; 0 = now."""
        return 0.0 if self.event_ready else max(0.0, self._due - now)

    def take(self, now: float) -> str:
        """Remove and return the text of the next event."""
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
    """The broker did not acknowledge an event: later events would be ignored."""
    text: TextDigest | None = field(default_factory=TextDigest)
    """A digest of the text; None = another tier streamed it, and its text is unknown."""


class StreamWriter:
    """Writes the text of an answer while it is generated; `context.stream_writer`, None if no stream was requested.

    Args:
        to: The address of the caller that reads the stream.
        send: Sends a record.
        run: The run, for readers of the topic.
        ends: Whether the handler's reply goes to the same address: then the stream ends with an `end` event.
        limits: How text is combined into events.
        clock: Returns the time, seconds.
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
        self._reply: Message | None = None
        self._visible = False
        """Whether the reader may have text, of any attempt, that no reset has revoked."""
        self._pump: asyncio.Task[None] | None = None
        self._flushing = False
        self._urgent = asyncio.Event()
        self._taken = asyncio.Event()

    # -- for handlers ---------------------------------------------------------------------------------------------

    async def write(self, text: str) -> None:
        """Send text. Returns immediately, unless the buffer is full."""
        if not text:
            return
        self._visible = True
        if self._attempt.text is not None:
            self._attempt.text.add(text)
        self._waiting.add(text)
        self._start_pump()
        if self._waiting.event_ready:
            self._urgent.set()
        while self._waiting.full:
            self._taken.clear()
            self._start_pump()
            await self._taken.wait()

    async def reset(self, reason: str, *, rung: Rung | None = None) -> None:
        """Revoke the text that was streamed so far, by this or another tier, with the reason."""
        self.start_attempt()
        await self._flush()
        await self._emit(Reset(reason=reason, rung=rung))
        self._visible = False

    # -- for the processor --------------------------------------------------------------------------------------------

    def start_attempt(self) -> None:
        """Start a new attempt: the reader starts over when its first event arrives."""
        self._attempt = _Attempt()
        self._reply = None
        self._waiting.clear()

    def begin_call(self, _own: ReplyAddress) -> ReplyAddress:
        """Let the tier that this handler calls continue the stream; return the address of the handler's own caller."""
        self.start_attempt()  # if the call fails, our next event revokes what the other tier has sent
        self._visible = True
        return self.to

    async def on_reply(self, reply: Message, position: StreamPosition | None) -> None:
        """Continue the stream of the called tier; if it streamed nothing, send the whole text of its reply."""
        text = text_of(reply)
        if position is not None:
            self._attempt = _Attempt(
                position.attempt, position.seq + 1, text=None if text is None else TextDigest(text)
            )
        elif text:
            await self.write(text)

    def set_reply(self, reply: Message) -> None:
        """Set the reply of the handler: the stream has the text of this reply, and of no other."""
        self._reply = reply

    async def finish(self, reply: Message) -> StreamPosition | None:
        """Send the waiting text and the `end`; call it before the reply is sent.

        Args:
            reply: The reply to send. A fault, or the stored reply of another copy, has no text in this stream.

        Returns:
            The position that the reply names; None if the reply does not refer to the stream.
        """
        if reply is not self._reply:
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
        """Return whether the reader of the stream has exactly this text, or none."""
        attempt = self._attempt
        if not attempt.next:
            return not self._visible
        return attempt.text is not None and attempt.text.matches(text)

    # -- sending --------------------------------------------------------------------------------------------------

    def _start_pump(self) -> None:
        if self._pump is None or self._pump.done():
            self._pump = asyncio.create_task(self._send_waiting())

    async def _send_waiting(self) -> None:
        """Send the waiting text, one event after the other, so that they keep their order."""
        try:
            while not self._waiting.empty:
                wait = self._waiting.wait(self._clock())
                if wait and not self._flushing:
                    await self._gather(wait)
                if not self._waiting.empty:  # a new attempt may have started in the meantime
                    text = self._waiting.take(self._clock())
                    self._taken.set()
                    await self._emit(Delta(text=text))
        finally:
            self._taken.set()

    async def _gather(self, seconds: float) -> None:
        """Wait for more text, until the time is over or the text must be sent."""
        self._urgent.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._urgent.wait()
        except TimeoutError:
            pass  # the time is over

    async def _flush(self) -> None:
        self._flushing = True
        try:
            while self._pump is not None and not (self._pump.done() and self._waiting.empty):
                self._start_pump()
                self._urgent.set()
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
            log.warning("run %s: its stream is abandoned, its reply has the text: %s", self._run, error)
        except Exception:  # a bug: a stream never fails the work
            attempt.lost = True
            log.exception("run %s: its stream is abandoned, its reply has the text", self._run)


def text_of(reply: Message) -> str | None:
    """Return the text of a reply; None if it has no text."""
    text = getattr(reply, "text", None)
    return text if isinstance(text, str) else None
