"""The message processor: the whole life of one message, from its record to its reply."""

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

from poise.contracts.envelope import Envelope
from poise.contracts.fault import Fault
from poise.contracts.topics import Topic
from poise.errors import (
    MessageError,
    NewerVersionError,
    PoiseError,
    RetryableError,
    RunCancelledError,
    UnavailableError,
)
from poise.kafka.open_transactions import WaitingCaller
from poise.kafka.record import Record
from poise.redis.client import RedisClient
from poise.rpc.deadlines import resolve_deadline
from poise.rpc.encoding import EncodedMessage
from poise.telemetry import Span, SpanKind, adjust, count, extract, measure, semconv, span
from poise.worker.connection import MeshConnection
from poise.worker.context import Context
from poise.worker.decoder import DecodedMessage, MessageDecoder
from poise.worker.delayed_retries import DelayedRetry
from poise.worker.handler_runner import HandlerRunner
from poise.worker.idempotency import IdempotencyGuard
from poise.worker.result_publisher import ResultPublisher
from poise.worker.retry_policy import FailedAttempt, RetryBudget, RetryLater, decide, overload_error
from poise.worker.tier import Tier

OVERLOAD_OUTCOME: Final = "rejected"
"""The outcome, in spans, of a message that was rejected because this worker is overloaded."""


class MessageProcessor:
    """Processes the messages of one topic for one tier."""

    def __init__(  # noqa: PLR0917 - the parts of one process
        self,
        mesh: MeshConnection,
        redis: RedisClient,
        tier: Tier,
        topic: Topic,
        guard: IdempotencyGuard,
        budget: RetryBudget,
    ) -> None:
        self._mesh = mesh
        self._tier = tier
        self._topic = topic
        self._guard = guard
        self._budget = budget
        self._jitter = random.Random()  # noqa: S311 - spreads retries, guards nothing
        self._metric_labels = {semconv.MESSAGING_DESTINATION: topic.name}
        self.decoder = MessageDecoder(mesh, redis, topic)
        self.results = ResultPublisher(mesh, tier.name, topic)
        self._runner = HandlerRunner(tier, topic, mesh.cancellation, self.results, budget)

    async def process(self, record: Record) -> None:
        """Process one message. When this returns, the consumer may commit its offset.

        Raises:
            PoiseError: The broker acknowledged neither reply nor dead letter; the message is not finished.
        """
        await self._process_safely(record, None)

    async def process_retry(self, retry: DelayedRetry) -> None:
        """Process a message from a delayed-retry topic as if it were at its original position; see `process`."""
        await self._process_safely(retry.record, retry)

    async def reject(self, record: Record) -> None:
        """Reject a message because this worker is overloaded: its caller gets a retryable fault; see `process`."""
        await self._process_safely(record, None, overload_error(self._mesh.settings.instance, self._topic.name))

    async def _process_safely(
        self, record: Record, retry: DelayedRetry | None, overload: RetryableError | None = None
    ) -> None:
        adjust(semconv.IN_FLIGHT, 1, self._metric_labels)
        self._budget.deposit()
        try:
            await self._process(record, retry, overload)
        except PoiseError:  # the broker acknowledged neither reply nor dead letter
            raise
        except Exception as error:  # noqa: BLE001 - a bug in Poise, which a retry would only repeat
            await self.results.dead_letter(record, error)
        finally:
            adjust(semconv.IN_FLIGHT, -1, self._metric_labels)

    async def _process(self, record: Record, retry: DelayedRetry | None, overload: RetryableError | None) -> None:
        """Take a message through its whole life.

        1. decode: a message that violates the contract is dead-lettered
        2. span: a child of the caller's trace
        3. overloaded? then it is not handled, and the caller gets a retryable fault
        4. cancelled? then nothing is stored, and the caller gets the fault `urn:poise:cancelled`
        5. seen? a stored reply is published again; while another copy is handled, wait for its reply
        6. expired? handle, within the deadline; decide on a failure: retry, delay, return the fault, expire or
           dead-letter
        7. store the result
        8. publish the reply, after the dead letter, if there is one; the consumer commits the offset after both
        """
        started = time.time()
        count(semconv.CONSUMED_MESSAGES, 1, self._metric_labels)
        measure(semconv.QUEUE_WAIT, max(0.0, started - record.timestamp), self._metric_labels)
        message = await self._decode(record, retry)  # 1
        if message is None:
            return
        request, context = message.request, message.context
        reply: EncodedMessage | None
        left_to_copy = False
        with self._span(context, started) as current:  # 2
            try:
                if overload is not None:  # 3
                    count(semconv.REJECTED_OVERLOAD, 1, self._metric_labels)
                    outcome, reply = OVERLOAD_OUTCOME, EncodedMessage.of(overload.fault())
                else:
                    with self._mesh.cancellation.scope(request, context):  # 4
                        async with self._guard.claim(request, context) as claim:  # 5
                            reply = claim.reply
                            left_to_copy = reply is not None  # another copy is, or was, handled
                            if reply is None:
                                reply = await self._runner.run(message, claim)  # 6
                            reply = await claim.store_result(reply)  # 7
                    outcome = "fault" if reply is not None and isinstance(reply.message, Fault) else "ok"
            except RunCancelledError as error:
                count(semconv.CANCELLED, 1, self._metric_labels)
                outcome, reply = "cancelled", EncodedMessage.of(error.fault())
            current.set_attribute(semconv.OUTCOME, outcome)
            if reply is not None:
                if isinstance(reply.message, Fault) and not left_to_copy and self._tier.on_fault is not None:
                    await self._tier.on_fault(request, context, reply.message)
                await self.results.reply(message, reply)  # 8
        measure(semconv.PROCESS_DURATION, time.time() - started, self._metric_labels)

    async def _decode(self, record: Record, retry: DelayedRetry | None) -> DecodedMessage | None:
        """Decode a record; None if it was dead-lettered, or delayed for a newer worker."""
        try:
            return await self.decoder.decode(record, retry)
        except NewerVersionError as error:
            if not await self._delay_for_newer_worker(record, error, retry):
                await self._dead_letter_undecodable(record, error)
        except MessageError as error:
            await self._dead_letter_undecodable(record, error)
        except UnavailableError:  # the record is not at fault: it is delivered again
            raise
        except Exception as error:  # noqa: BLE001 - a bug in Poise must not block the partition
            await self.results.dead_letter(record, error)
        return None

    async def _delay_for_newer_worker(
        self, record: Record, error: NewerVersionError, retry: DelayedRetry | None
    ) -> bool:
        """Write the message to a delayed-retry topic, if its deadline permits: a rolling upgrade may be in progress."""
        envelope = Envelope.read(record.headers)
        remaining = resolve_deadline(envelope.deadline, record.timestamp, self._topic.deadlines) - time.time()
        attempts, delayed = (retry.attempts, retry.count) if retry else (0, 0)
        attempt = FailedAttempt(
            attempts + 1, remaining, has_caller=envelope.reply_to is not None, delayed_retries=delayed
        )
        match decide(error, attempt, self._jitter):
            case RetryLater(delay):
                return await self.results.retry_later(record, error, delay, attempt)
            case _:
                return False

    async def _dead_letter_undecodable(self, record: Record, error: MessageError) -> None:
        attributes = {semconv.OUTCOME: "dead"}
        with span(semconv.process_span(self._topic.name), kind=SpanKind.CONSUMER, attributes=attributes):
            run, step = self.decoder.run_and_step(record)
            await self.results.dead_letter_and_reply(record, error, run=run, step=step)

    async def waiting_caller(self, record: Record) -> WaitingCaller | None:
        """Return the caller of a message that the broker does not deliver yet; None if no caller is known.

        Raises:
            UnavailableError: The broker did not answer whether the reply's topic exists.
        """
        try:
            message = await self.decoder.decode(record, None)
        except MessageError:
            return None  # it is dead-lettered when it is delivered
        if message.address is None:
            return None
        context = message.context
        # The arguments alone, not the message: many callers may wait.
        expire = partial(self.results.expire_undelivered, message.address, record.position, context.run, context.step)
        return WaitingCaller(context.deadline, expire)

    @contextmanager
    def _span(self, context: Context, started: float) -> Iterator[Span]:
        parent = extract(context.envelope.trace)
        with span(semconv.process_span(self._topic.name), kind=SpanKind.CONSUMER, parent=parent) as current:
            if current.is_recording():
                current.set_attributes(span_attributes(context, started))
            yield current


def span_attributes(context: Context, started: float) -> dict[str, Any]:
    """Return the attributes of the span of one message; `started` is in Unix seconds."""
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
