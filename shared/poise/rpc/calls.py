"""Calls: requests and their correlated replies, on one partition of `poise.replies`.

Each instance reads one random partition by manual assignment. It has no consumer group, so no rebalance can lose a
reply. Instances may share a partition; each skips the replies to others.
"""

import asyncio
import logging
import random
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Protocol, Self

from pydantic import ValidationError

from poise.contracts.envelope import Envelope
from poise.contracts.fault import Fault
from poise.contracts.headers import CORRELATION_ID, KIND
from poise.contracts.message import Message, ReplyT, Request
from poise.contracts.run_id import ROOT_STEP, derive_run_id
from poise.contracts.stream import StreamPosition
from poise.contracts.topics import REPLIES, Topic
from poise.errors import (
    DeadlineExceededError,
    FaultError,
    NotAcknowledgedError,
    RunCancelledError,
    TerminalError,
    UnavailableError,
)
from poise.kafka.log_reader import LogAccess, LogReader
from poise.kafka.record import Position, Record, SendRecord
from poise.rpc.deadlines import limit_note
from poise.rpc.encoding import JSON, encode, encode_headers
from poise.rpc.pending_call import PendingCall
from poise.rpc.reply_address import ReplyAddress
from poise.rpc.stream_reader import StreamReader, is_event, position_of
from poise.telemetry import SpanKind, count, inject, measure, semconv, span

log = logging.getLogger(__name__)

MAX_ABANDONED: Final = 10_000
"""Abandoned calls to remember, so that their replies are counted as late, not as orphaned."""
CORRELATION_ID_BYTES: Final = 16
"""Random bytes of a correlation id: a client that may write asks must not be able to guess the id of another call."""

OnAbandoned = Callable[["OutgoingCall", Position | None], None]
"""Receives a call whose caller is gone, and the position of its request if it was sent; returns at once."""
CANCELLED_TYPE: Final = f"urn:poise:{RunCancelledError.name}"
"""The fault type of cancelled work."""


class StreamSink(Protocol):
    """Receives a call's text as it is generated: a local reader, or the stream of the handler's own caller."""

    def begin_call(self, own: ReplyAddress, /) -> ReplyAddress:
        """Expect the text of a call, and return the address for it; `own` is the address for the reply."""

    async def on_reply(self, reply: Message, position: StreamPosition | None) -> None:
        """Receive the reply, and the stream position that it names."""


@dataclass(frozen=True, slots=True)
class OutgoingCall:
    """The destination and the headers of a request."""

    topic: Topic
    key: str | None
    envelope: Envelope
    deadline: float
    """Unix seconds."""
    stream: StreamSink | None = None
    """Receives the text as it is generated; None = only the reply is wanted."""


class Calls:
    """The calls of one instance; `async with Calls(…) as calls`, after which replies can arrive.

    Entering resolves the start position on the reply partition, so every reply that is written later is read.
    """

    def __init__(
        self, logs: LogAccess, instance: str, send: SendRecord, partitions: int, on_abandoned: OnAbandoned
    ) -> None:
        self._prefix = f"{instance}.".encode()
        self._send = send
        self._partition = random.randrange(partitions)  # noqa: S311 - spreads load, guards nothing
        self._reader = LogReader(logs, REPLIES.name, self._receive, start="end", partitions=[self._partition])
        self._pending: dict[bytes, PendingCall] = {}
        self._abandoned: OrderedDict[bytes, None] = OrderedDict()
        self._on_abandoned = on_abandoned
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Resolve the start position and start reading."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._reader)
            await self._reader.wait_until_open()
            self._open = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop reading; calls in progress are cancelled."""
        for pending in self._pending.values():
            pending.reply.cancel()
        await self._open.aclose()

    async def call(self, request: Request[ReplyT], to: OutgoingCall) -> ReplyT:
        """Send a request and wait for its reply.

        Raises:
            FaultError: The tier answered with a fault.
            RunCancelledError: The run, or this step of it, was cancelled.
            DeadlineExceededError: No reply came before the deadline.
            NotAcknowledgedError: The broker had not acknowledged the request by then.
            EncodingError: The request has a field, or a header, that cannot be written.
            UnavailableError: The broker rejected the request, or the reader of replies has failed.
        """
        started = time.monotonic()
        metric_labels = {semconv.MESSAGING_DESTINATION: to.topic.name}
        step = to.envelope.step or request.kind.partition("/")[0]
        attributes = {**metric_labels, semconv.MESSAGING_SYSTEM: "kafka", semconv.STEP: step}
        if to.envelope.run is not None:
            attributes[semconv.RUN] = to.envelope.run
        outcome = "fault"
        with span(semconv.call_span(step), kind=SpanKind.CLIENT, attributes=attributes):
            try:
                reply = await self._exchange(request, to)
                outcome = "ok"
            except (DeadlineExceededError, NotAcknowledgedError):
                outcome = "expired"
                raise
            except asyncio.CancelledError:
                outcome = "cancelled"
                raise
            finally:
                metric_labels[semconv.OUTCOME] = outcome
                count(semconv.CALLS, 1, metric_labels)
                measure(semconv.CALL_DURATION, time.monotonic() - started, metric_labels)
        return reply

    async def _exchange(self, request: Request[ReplyT], to: OutgoingCall) -> ReplyT:
        if (failure := self._reader.failure) is not None:
            raise UnavailableError(f"replies cannot be read: {failure}")
        # Random, so that a restarted instance with the same name does not receive its predecessor's replies.
        correlation_id = self._prefix + secrets.token_hex(CORRELATION_ID_BYTES).encode()
        own = ReplyAddress(REPLIES.name, self._partition, correlation_id)
        envelope = to.envelope.with_changes(
            stream_to=None if to.stream is None else to.stream.begin_call(own).encode(),
            correlation_id=correlation_id,
            reply_to=REPLIES.name,
            reply_partition=self._partition,
            deadline=round(to.deadline * 1_000),
            kind=request.kind,
            content_type=JSON,
            trace=inject(),
        )
        body, headers = encode(request), encode_headers(envelope)
        reader = to.stream if isinstance(to.stream, StreamReader) else None
        pending = PendingCall(to.envelope.run, to.envelope.step or ROOT_STEP, reader)
        self._pending[correlation_id] = pending
        position: Position | None = None
        left = max(0.0, to.deadline - time.time())
        if note := limit_note(left, to.topic):
            log.warning("a call's deadline is shortened%s", note)
        try:
            async with asyncio.timeout(min(left, to.topic.deadlines.longest)):
                key = None if to.key is None else to.key.encode()
                position = await self._send(to.topic.name, body, key=key, headers=headers)
                pending.request_written(_run_id_at(position))
                record = await pending.reply
        except TimeoutError as error:
            self._remember_abandoned(correlation_id)
            if position is None:
                request_name = f"step {to.envelope.step} for {to.topic.name}"
                raise NotAcknowledgedError(
                    f"the broker did not acknowledge {request_name} before the deadline{note}"
                ) from error
            raise DeadlineExceededError(
                f"no reply on {to.topic.name} for step {to.envelope.step} before the deadline{note}"
            ) from error
        except asyncio.CancelledError:
            self._remember_abandoned(correlation_id)
            self._on_abandoned(to, position)
            raise
        finally:
            del self._pending[correlation_id]
        reply = _decode_reply(record, request)
        if to.stream is not None:
            await to.stream.on_reply(reply, position_of(record))
        return reply

    def _remember_abandoned(self, correlation_id: bytes) -> None:
        self._abandoned[correlation_id] = None
        if len(self._abandoned) > MAX_ABANDONED:
            self._abandoned.popitem(last=False)

    def _receive(self, record: Record) -> None:
        correlation_id = record.raw_header(CORRELATION_ID)
        if correlation_id is None or not correlation_id.startswith(self._prefix):
            return  # a reply to another instance: the partition may be shared
        if (pending := self._pending.get(correlation_id)) is not None:
            pending.receive(record)
        elif is_event(record):
            return  # of a call that has ended: its reply was complete
        elif correlation_id in self._abandoned:
            count(semconv.REPLIES_LATE)
        else:
            count(semconv.REPLIES_ORPHANED)


def _run_id_at(position: Position) -> str | None:
    """Return the id that a request at a position gives its run if it names none; None if the position is unknown."""
    if position.offset < 0:
        return None
    return derive_run_id(position.topic, position.partition, position.offset, position.timestamp)


def _decode_reply(record: Record, request: Request[ReplyT]) -> ReplyT:
    kind = record.header(KIND)
    try:
        if kind == Fault.kind:
            fault = Fault.parse(record.value or b"")
            raise RunCancelledError(fault.detail) if fault.type == CANCELLED_TYPE else FaultError(fault)
        reply: ReplyT = request.reply.parse(record.value or b"")
    except ValidationError as error:
        raise TerminalError(f"the reply to {request.kind} cannot be read: {error}") from error
    return reply
