"""The life of one message, from its bytes to its reply."""

import asyncio
import logging
import math
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from pydantic import ValidationError

from poise.contracts.document import Deletion
from poise.contracts.envelope import KIND, MAX_HEADER_BYTES, RUN, STEP, Envelope, EnvelopeError
from poise.contracts.fault import Fault, FieldError
from poise.contracts.integers import read_integer
from poise.contracts.message import Message, Request
from poise.contracts.run_id import ROOT_STEP, derive_run_id
from poise.contracts.topics import Topic
from poise.dead_letters import model
from poise.errors import (
    DeadlineExceededError,
    InvalidMessageError,
    MessageError,
    NewerVersionError,
    PoiseError,
    RecordTooLargeError,
    RunCancelledError,
    TerminalError,
    UnavailableError,
)
from poise.kafka.handling_slots import parked
from poise.kafka.open_transactions import WaitingCaller
from poise.kafka.record import Position, Record
from poise.kafka.undecodable import undecodable_error
from poise.redis.client import RedisClient
from poise.rpc.deadlines import limit_note, resolve_deadline
from poise.rpc.encoding import EncodedMessage
from poise.rpc.reply_address import ReplyAddress
from poise.rpc.stream_writer import StreamLimits, StreamWriter
from poise.telemetry import SpanKind, adjust, count, extract, measure, semconv, span
from poise.text.error_text import error_message, error_with_type
from poise.worker import delayed_retries, retry_policy
from poise.worker.connection import MeshConnection
from poise.worker.context import Context, Handler
from poise.worker.delayed_retries import DelayedRetry
from poise.worker.idempotency import Claim, IdempotencyGuard
from poise.worker.retry_policy import Expire, FailedAttempt, GiveUp, Retry, RetryBudget, RetryLater, ReturnFault, decide
from poise.worker.tier import Tier

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Job:
    """A message that was understood."""

    request: Message
    handler: Handler
    context: Context
    address: ReplyAddress | None
    postponed: int
    """How often it was."""


class MessageProcessor:
    """Handles the messages of one topic for one tier."""

    def __init__(  # noqa: PLR0917 - the parts of one process
        self,
        mesh: MeshConnection,
        redis: RedisClient,
        tier: Tier,
        topic: Topic,
        receipts: IdempotencyGuard,
        budget: RetryBudget,
    ) -> None:
        self._mesh = mesh
        self._redis = redis
        self._tier = tier
        self._topic = topic
        self._receipts = receipts
        self._budget = budget
        self._jitter = random.Random()  # noqa: S311 - spreads retries, guards nothing
        self._kinds: Mapping[str, type[Message]] = {kind.kind: kind for kind in topic.accepts}
        self._metered = {semconv.MESSAGING_DESTINATION: topic.name}

    async def deliver(self, record: Record) -> None:
        """Handle one message, whole. When this returns its offset is finished.

        1. decode: what is not what the contract says is a dead letter at once
        2. cancelled? it is finished; seen already? a stored reply is sent again as it was, and a copy that is being
           handled is waited for
        3. expired? nobody wants the answer: a fault
        4. handle, within the deadline, and encode the reply
        5. decide on a failure: again, later, dead letter, or expired
        6. publish the reply; the dead letter is written before it, and the offset is committed after both

        Raises:
            PoiseError: The broker took neither reply nor dead letter; the message is not finished.
        """
        await self._observed(record, None)

    async def turn_away(self, record: Record) -> None:
        """Tell who waits for a message that this worker has no room for it, and finish it; see `deliver`."""
        await self._observed(record, None, retry_policy.overload_error(self._mesh.settings.instance, self._topic.name))

    async def deliver_again(self, postponed: DelayedRetry) -> None:
        """Handle a message that was postponed, as if it stood where it stood first; see `deliver`."""
        await self._observed(postponed.record, postponed)

    async def _observed(self, record: Record, postponed: DelayedRetry | None, busy: PoiseError | None = None) -> None:
        adjust(semconv.IN_FLIGHT, 1, self._metered)
        self._budget.deposit()
        try:
            await self._deliver(record, postponed, busy)
        except PoiseError:  # the broker took neither reply nor dead letter
            raise
        except Exception as error:  # noqa: BLE001 - a bug of ours: the same one would come each time it is tried again
            await self.set_aside(record, error)
        finally:
            adjust(semconv.IN_FLIGHT, -1, self._metered)

    async def _deliver(self, record: Record, postponed: DelayedRetry | None, busy: PoiseError | None) -> None:
        started = time.time()
        count(semconv.CONSUMED_MESSAGES, 1, self._metered)
        measure(semconv.QUEUE_WAIT, max(0.0, started - record.timestamp), self._metered)
        try:
            job = await self._decode(record, postponed)
        except NewerVersionError as error:
            await self._not_yet(record, error, postponed)
            return
        except InvalidMessageError as error:
            await self._refuse(record, error)
            return
        except UnavailableError:
            raise
        except Exception as error:  # noqa: BLE001 - a bug of ours in reading it must not hold the partition up
            await self.set_aside(record, error)
            return
        context = job.context
        parent = extract(context.envelope.trace)
        with span(semconv.process_span(self._topic.name), kind=SpanKind.CONSUMER, parent=parent) as current:
            if current.is_recording():
                current.set_attributes(self._attributes(context, started))
            outcome, reply = await (self._answer(job) if busy is None else self._turned_away(job, busy))
            current.set_attribute(semconv.OUTCOME, outcome)
            if reply is not None and job.address is not None:
                await self._publish(job, job.address, reply)
        measure(semconv.PROCESS_DURATION, time.time() - started, self._metered)

    async def _answer(self, job: _Job) -> tuple[str, EncodedMessage | None]:
        """The outcome, and what to reply. Withdrawn work is finished, and nothing of it is stored."""
        try:
            with self._mesh.cancels.watching(job.request, job.context):
                async with self._receipts.of(job.request, job.context) as receipt:
                    reply = receipt.stored if receipt.stored is not None else await self._handle(job, receipt)
                    first = receipt.stored is None
                    if reply is not None:
                        reply = await receipt.settle(reply)
        except RunCancelledError as error:
            count(semconv.CANCELLED, 1, self._metered)
            await self._tell_of(job, error.fault())
            return "cancelled", EncodedMessage.of(error.fault())
        if reply is None or not isinstance(reply.message, Fault):
            return "ok", reply
        if first:
            await self._tell_of(job, reply.message)
        return "fault", reply

    async def _turned_away(self, job: _Job, busy: PoiseError) -> tuple[str, EncodedMessage]:
        count(semconv.REJECTED_BUSY, 1, self._metered)
        await self._tell_of(job, busy.fault())
        return "turned away", EncodedMessage.of(busy.fault())

    async def _tell_of(self, job: _Job, fault: Fault) -> None:
        if self._tier.on_fault is not None:
            await self._tier.on_fault(job.request, job.context, fault)

    # -- 1 decode -------------------------------------------------------------------------------------------------

    async def _decode(self, record: Record, postponed: DelayedRetry | None) -> _Job:
        if record.undecodable is not None:
            raise undecodable_error(record)
        try:
            envelope = Envelope.read(record.headers)
        except EnvelopeError as error:
            raise InvalidMessageError(str(error), [error.error]) from error
        deadline = resolve_deadline(envelope.deadline, record.timestamp, self._topic.deadlines)
        kind = self._kind(record, envelope)
        address = await self._mesh.addresses.resolve(envelope)
        stream_to = await self._mesh.addresses.stream(envelope, public=self._topic.public)
        try:
            request = kind() if kind is Deletion else kind.parse(record.value or b"", strict=self._topic.public)
        except ValidationError as error:
            # Without its cause: it repeats what is wrong, for a hostile body in a hundred megabytes.
            raise InvalidMessageError.of(error) from None
        context = self._context(record, envelope, deadline)
        if postponed is not None:
            context = replace(context, attempt=postponed.attempts + 1)
        if stream_to is not None:
            ends = address is not None and (address.correlation_id or b"") == (stream_to.correlation_id or b"")
            limits = StreamLimits(interval=self._mesh.settings.stream_interval)
            stream = StreamWriter(stream_to, self._mesh.producer.send, run=context.run, ends=ends, limits=limits)
            context = replace(context, stream=stream)
        return _Job(request, self._tier.handlers[kind], context, address, postponed.count if postponed else 0)

    def _kind(self, record: Record, envelope: Envelope) -> type[Message]:
        if record.value is None:
            if Deletion.kind in self._kinds:
                return Deletion
            raise InvalidMessageError("the value is null", [FieldError(field="body", detail="must not be null")])
        if envelope.kind is None:
            return self._topic.accepts[0]
        kind = self._kinds.get(envelope.kind)
        if kind is None:
            detail = f"{envelope.kind!r} is not known here; {self._topic.name} takes {', '.join(self._kinds)}"
            error = NewerVersionError if _is_newer(envelope.kind, self._kinds) else InvalidMessageError
            raise error(f"{KIND}: {detail}", [FieldError(field=KIND, detail=detail)])
        return kind

    def _context(self, record: Record, envelope: Envelope, deadline: float) -> Context:
        run = None if self._topic.public else envelope.run
        return Context(
            record=record,
            envelope=envelope,
            run=run or derive_run_id(*record.identity),
            step=(None if self._topic.public else envelope.step) or ROOT_STEP,
            tenant=(None if self._topic.public else envelope.tenant) or self._mesh.settings.tenant,
            deadline=deadline,
            attempt=(None if self._topic.public else envelope.attempt) or 1,
            lane=self._topic.lane,
            rpc=self._mesh.rpc,
            producer=self._mesh.producer,
            redis=self._redis,
        )

    async def _refuse(self, record: Record, error: MessageError) -> None:
        """What cannot be understood is kept, and whoever sent it is told, if an address can be made out."""
        with span(semconv.process_span(self._topic.name), kind=SpanKind.CONSUMER, attributes={semconv.OUTCOME: "dead"}):
            await self.set_aside(record, error)
            address = await self._mesh.addresses.salvage(record)
            if address is not None:
                try:
                    run, step = self._run_and_step(record)
                    await self._mesh.producer.reply(address, EncodedMessage.of(error.fault()), run=run, step=step)
                except TerminalError as failure:
                    log.warning("nobody was told why %s is a dead letter: %s", record.position, failure)

    def _run_and_step(self, record: Record) -> tuple[str, str]:
        """What the reply to a message names, although its headers may be unreadable: its caller compares it."""
        run, step = (None, None) if self._topic.public else (record.header(RUN), record.header(STEP))
        return (run or derive_run_id(*record.identity))[:MAX_HEADER_BYTES], (step or ROOT_STEP)[:MAX_HEADER_BYTES]

    async def _not_yet(self, record: Record, error: NewerVersionError, postponed: DelayedRetry | None) -> None:
        """What only a newer worker understands is left for one, as long as there is time."""
        envelope = Envelope.read(record.headers)
        remaining = resolve_deadline(envelope.deadline, record.timestamp, self._topic.deadlines) - time.time()
        attempts, times = (postponed.attempts, postponed.count) if postponed else (0, 0)
        attempt = FailedAttempt(attempts + 1, remaining, envelope.reply_to is not None, times)
        match decide(error, attempt, self._jitter):
            case RetryLater(delay) if await self._postpone(record, error, delay, attempt):
                return
            case _:
                await self._refuse(record, error)

    # -- 3 expired?  4 handle  5 decide ---------------------------------------------------------------------------

    async def _handle(self, job: _Job, receipt: Claim) -> EncodedMessage | None:
        number, waited = job.context.attempt, 0.0
        while True:
            try:
                return await self._try(job, number)
            except RunCancelledError:  # a call of the handler's was: it is not wanted either
                raise
            except Exception as error:  # noqa: BLE001 - decide() owns every failure of a handler
                self._mesh.cancels.check(error)
                room = self._budget.has_room(time.monotonic())
                attempt = FailedAttempt(
                    number, job.context.remaining(), job.address is not None, job.postponed, room, waited
                )
                match decide(error, attempt, self._jitter):
                    case Retry(delay):
                        self._budget.withdraw()
                        count(semconv.RETRIES, 1, {**self._metered, semconv.ERROR_TYPE: type(error).__name__})
                        run, step = job.context.run, job.context.step
                        log.info("run %s step %s: %s; again in %.1f s", run, step, error_message(error), delay)
                        async with parked():
                            await asyncio.sleep(delay)
                        number, waited = number + 1, waited + delay
                    case RetryLater(delay) if await self._postpone(job.context.record, error, delay, attempt):
                        return None
                    case Expire() | ReturnFault() as end:
                        return EncodedMessage.of(self._told(end, job.context, error))
                    case GiveUp() | RetryLater():
                        # Not where another copy has the step by now: that one's end is this one's too.
                        other = await receipt.taken_over()
                        if other is not None:
                            return other
                        return EncodedMessage.of(await self.set_aside(job.context.record, error, attempt=number))

    def _told(self, end: Expire | ReturnFault, context: Context, error: Exception) -> Fault:
        if isinstance(end, ReturnFault) and isinstance(error, PoiseError):
            return error.fault()
        count(semconv.DEADLINE_EXCEEDED, 1, self._metered)
        if not isinstance(error, DeadlineExceededError):
            told = f"tier {self._tier.name} did not finish step {context.step} before its deadline"
            error = DeadlineExceededError(told)
        fault, asked = error.fault(), context.envelope.deadline
        cut = "" if asked is None else limit_note(asked / 1_000 - context.record.timestamp, self._topic)
        return fault.model_copy(update={"detail": f"{fault.detail}{cut}"})

    async def _try(self, job: _Job, attempt: int) -> EncodedMessage | None:
        context = job.context if attempt == job.context.attempt else replace(job.context, attempt=attempt)
        remaining = context.remaining()
        if remaining <= 0:
            raise DeadlineExceededError("the deadline had passed before the message was handled")
        if context.stream is not None:
            context.stream.begin()
        async with asyncio.timeout(None if math.isinf(remaining) else remaining):
            reply = await job.handler(job.request, context)
        if isinstance(job.request, Request) and not isinstance(reply, job.request.reply):
            raise TypeError(
                f"the handler of {job.request.kind} returned {reply!r:.200}, not {job.request.reply.__name__}"
            )
        if reply is None:
            return None
        encoded = EncodedMessage.of(reply)  # part of the work: what cannot be written fails here, once and for all
        if context.stream is not None:
            context.stream.made(reply)
        return encoded

    async def _postpone(self, record: Record, error: Exception, delay: float, attempt: FailedAttempt) -> bool:
        """Put a message off; False = it came compressed, and is larger than any record of ours may be."""
        times = attempt.postponed + 1
        try:
            await delayed_retries.publish(
                self._mesh.producer.send, self._tier.name, record, delay, attempt.number, times
            )
        except RecordTooLargeError:
            return False
        log.info("%s again in %.0f s: %s", record.position, delay, error_with_type(error))
        count(semconv.POSTPONED, 1, {**self._metered, semconv.ERROR_TYPE: type(error).__name__})
        return True

    async def waiting(self, record: Record) -> WaitingCaller | None:
        """Who waits for the reply to a message that the broker does not hand out yet; None = nobody is known to.

        Raises:
            UnavailableError: It cannot be told where the reply would go.
        """
        try:
            job = await self._decode(record, None)
        except InvalidMessageError:
            return None  # it is refused when it is handed out
        if job.address is None:
            return None
        place = record.position, job.context.run, job.context.step  # and no more: many may wait
        return WaitingCaller(job.context.deadline, partial(self._expire, job.address, *place))

    async def _expire(self, address: ReplyAddress, position: Position, run: str, step: str) -> None:
        count(semconv.DEADLINE_EXCEEDED, 1, self._metered)
        told = f"{position} stands behind a transaction that another client has left open: nothing there is handed out"
        await self._mesh.producer.reply(
            address, EncodedMessage.of(DeadlineExceededError(told).fault()), run=run, step=step
        )

    # -- 6 publish ------------------------------------------------------------------------------------------------

    async def _publish(self, job: _Job, address: ReplyAddress, reply: EncodedMessage) -> None:
        try:
            context = job.context
            await self._mesh.producer.reply(address, reply, run=context.run, step=context.step, stream=context.stream)
        except TerminalError as error:  # the address takes no reply, nor ever will: trying again would hold others up
            await self.set_aside(job.context.record, error, attempt=job.context.attempt)

    async def set_aside(self, record: Record, error: Exception, *, attempt: int = 1) -> Fault:
        """Keep a record that nobody can handle, and say what its sender is told."""
        worker = self._mesh.settings.instance
        kept = await model.write(
            self._mesh.producer.send, self._tier.name, record, error, attempt=attempt, worker=worker
        )
        log.warning("%s is a dead letter now, %s: %s", record.position, kept, error_with_type(error))
        count(
            semconv.DEAD_LETTERS,
            1,
            {semconv.TIER: self._tier.name, semconv.TOPIC: record.topic, semconv.ERROR_TYPE: type(error).__name__},
        )
        if isinstance(error, PoiseError):
            return error.fault()
        letter = f"{self._tier.name}/{kept.partition}/{kept.offset}"  # as `poise dlq show` takes it
        return TerminalError(f"{self._tier.name} failed on it, {type(error).__name__}: dead letter {letter}").fault()

    def _attributes(self, context: Context, started: float) -> dict[str, Any]:
        record = context.record
        return {
            semconv.MESSAGING_SYSTEM: "kafka",
            semconv.MESSAGING_OPERATION_NAME: "process",
            semconv.MESSAGING_OPERATION_TYPE: "process",
            semconv.MESSAGING_DESTINATION: record.topic,
            semconv.MESSAGING_PARTITION: str(record.partition),
            semconv.KAFKA_OFFSET: record.offset,
            semconv.RUN: context.run,
            semconv.STEP: context.step,
            semconv.TENANT: context.tenant,
            semconv.QUEUE_MS: round(max(0.0, started - record.timestamp) * 1_000, 1),
        }


def _is_newer(kind: str, known: Mapping[str, type[Message]]) -> bool:
    """Whether a kind, `name/version`, is a later version of one that is known."""
    name, _, version = kind.rpartition("/")
    number = read_integer(version)
    versions = [int(other.rpartition("/")[2]) for other in known if other.rpartition("/")[0] == name]
    return number is not None and bool(versions) and number > max(versions)
