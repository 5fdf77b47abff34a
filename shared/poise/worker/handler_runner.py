"""The handler runner of one tier: runs a message's handler within its deadline, and retries it in place."""

import asyncio
import logging
import math
import random
import time
from collections.abc import Mapping
from dataclasses import replace

from poise.contracts.fault import Fault
from poise.contracts.message import Message, Request
from poise.contracts.topics import Topic
from poise.errors import DeadlineExceededError, NotAcknowledgedError, PoiseError, RunCancelledError
from poise.kafka.handling_slots import parked
from poise.rpc.cancellation import CancellationRegistry
from poise.rpc.deadlines import limit_note
from poise.rpc.encoding import EncodedMessage
from poise.telemetry import count, semconv
from poise.text.error_text import error_message
from poise.worker.context import Context, Handler
from poise.worker.decoder import DecodedMessage
from poise.worker.idempotency import Claim
from poise.worker.result_publisher import ResultPublisher
from poise.worker.retry_policy import (
    DeadLetterIt,
    Expire,
    FailedAttempt,
    Retry,
    RetryBudget,
    RetryLater,
    ReturnFault,
    decide,
)
from poise.worker.tier import Tier

log = logging.getLogger(__name__)


class HandlerRunner:
    """Runs the handlers of a tier for the messages of one topic."""

    def __init__(
        self,
        tier: Tier,
        topic: Topic,
        cancellation: CancellationRegistry,
        results: ResultPublisher,
        budget: RetryBudget,
    ) -> None:
        self._tier = tier
        self._topic = topic
        self._handlers: Mapping[type[Message], Handler] = tier.handlers
        self._cancellation = cancellation
        self._results = results
        self._budget = budget
        self._jitter = random.Random()  # noqa: S311 - spreads retries, guards nothing
        self._metric_labels = {semconv.MESSAGING_DESTINATION: topic.name}

    async def run(self, message: DecodedMessage, claim: Claim) -> EncodedMessage | None:
        """Handle a message; on a failure, `decide` whether to retry, delay, return the fault, expire or dead-letter it.

        Returns:
            The reply or fault; None if the message has no reply, or is retried later.

        Raises:
            RunCancelledError: The message, or a call of its handler, was cancelled.
        """
        context = message.context
        number, waited = context.attempt, 0.0
        while True:
            try:
                return await self._attempt(message, number)
            except RunCancelledError:
                raise
            except Exception as error:  # noqa: BLE001 - decide() owns every failure of a handler
                self._cancellation.raise_if_cancelled(error)
                attempt = FailedAttempt(
                    number,
                    context.remaining(),
                    has_caller=message.address is not None,
                    delayed_retries=message.delayed_retries,
                    in_budget=self._budget.has_room(time.monotonic()),
                    waited=waited,
                )
                match decide(error, attempt, self._jitter):
                    case Retry(delay):
                        await self._wait_to_retry(context, error, delay)
                        number += 1
                        waited += delay
                    case RetryLater(delay):
                        return await self._retry_later(context, error, delay, attempt, claim)
                    case Expire():
                        return EncodedMessage.of(self._expired(context, error))
                    case ReturnFault() if isinstance(error, PoiseError):
                        return EncodedMessage.of(error.fault())
                    case DeadLetterIt() | ReturnFault():  # ReturnFault is decided for no other error than a PoiseError
                        return await self._dead_letter(context, error, number, claim)

    async def _attempt(self, message: DecodedMessage, number: int) -> EncodedMessage | None:
        request, context = message.request, message.context
        if number != context.attempt:
            context = replace(context, attempt=number)
        remaining = context.remaining()
        if remaining <= 0:
            raise DeadlineExceededError("the deadline had passed before the message was handled")
        if context.stream_writer is not None:
            context.stream_writer.start_attempt()
        async with asyncio.timeout(None if math.isinf(remaining) else remaining):
            reply = await self._handlers[type(request)](request, context)
        if isinstance(request, Request) and not isinstance(reply, request.reply):
            raise TypeError(f"the handler of {request.kind} returned {reply!r:.200}, not {request.reply.__name__}")
        if reply is None:
            return None
        encoded = EncodedMessage.of(reply)  # part of the attempt: an EncodingError is a failure of the handler
        if context.stream_writer is not None:
            context.stream_writer.set_reply(reply)
        return encoded

    async def _wait_to_retry(self, context: Context, error: Exception, delay: float) -> None:
        self._budget.withdraw()
        count(semconv.RETRIES, 1, {**self._metric_labels, semconv.ERROR_TYPE: type(error).__name__})
        log.info(
            "run %s step %s: %s; will be handled again in %.1f s",
            context.run,
            context.step,
            error_message(error),
            delay,
        )
        async with parked():
            await asyncio.sleep(delay)

    async def _retry_later(
        self, context: Context, error: Exception, delay: float, attempt: FailedAttempt, claim: Claim
    ) -> EncodedMessage | None:
        """Delay the message; dead-letter it if it is too large for a delayed-retry topic."""
        if await self._results.retry_later(context.record, error, delay, attempt):
            return None
        return await self._dead_letter(context, error, attempt.number, claim)

    async def _dead_letter(self, context: Context, error: Exception, number: int, claim: Claim) -> EncodedMessage:
        # If another copy holds the step by now, its reply is the reply to this copy too.
        other = await claim.acquire()
        if other is not None:
            return other
        return EncodedMessage.of(await self._results.dead_letter(context.record, error, attempt=number))

    def _expired(self, context: Context, error: Exception) -> Fault:
        count(semconv.DEADLINE_EXCEEDED, 1, self._metric_labels)
        if not isinstance(error, DeadlineExceededError | NotAcknowledgedError):
            reason = f"tier {self._tier.name} did not finish step {context.step} before its deadline"
            error = DeadlineExceededError(reason)
        fault, requested = error.fault(), context.envelope.deadline
        note = "" if requested is None else limit_note(requested / 1_000 - context.record.timestamp, self._topic)
        return fault.model_copy(update={"detail": f"{fault.detail}{note}"})
