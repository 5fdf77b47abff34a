"""The producer: the only way in which a process writes to Kafka, except for transactions.

The size of a record is computed before it is sent: one that is larger than its topic's limit is rejected here. Any
error of a batch makes the underlying Kafka producer unusable, which is then replaced (`replacing_producer`).
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from copy import copy
from functools import partial
from types import TracebackType
from typing import Any, Final, Self

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    BrokerResponseError,
    ClusterAuthorizationFailedError,
    InvalidProducerEpoch,
    InvalidTopicError,
    KafkaError,
    MessageSizeTooLargeError,
    OutOfOrderSequenceNumber,
    PolicyViolationError,
    ProducerClosed,
    ProducerFenced,
    RecordListTooLargeError,
    TopicAuthorizationFailedError,
    UnknownProducerId,
)

from poise.contracts.topics import MAX_RECORD_BYTES, PREFIX
from poise.errors import PoiseError, RecordTooLargeError, TerminalError, UnavailableError
from poise.kafka.connection import Connection
from poise.kafka.producer_health import SendHealth
from poise.kafka.record import Headers, Position
from poise.kafka.record_batch import MAX_HEADERS_IN_SHARED_BATCH
from poise.kafka.record_size import TopicLimits, size_of
from poise.kafka.replacing_producer import ReplacingProducer, is_fatal
from poise.liveness import Component, Liveness
from poise.telemetry import count, semconv
from poise.text.error_text import error_message

log = logging.getLogger(__name__)

SEND_TIMEOUT: Final = 30.0
"""Seconds until a send fails. With Kafka's defaults, the partitions of a dead broker are without a leader for 9 s, and
for 18 s if it was the active controller; the producer retries all that time."""
BATCH_EXPIRY: Final = 40.0
"""Seconds until a batch for a partition without a leader, or an unanswered request, fails."""
BATCH_SIZES: Final = (256 * 1024, 64 * 1024, 16 * 1024, 4 * 1024, 1)
"""Batch sizes in bytes; a topic gets the largest one within its limit. 1 = each record alone. All senders that find a
batch full wait for the next one together. In small batches, most of them are woken and must wait again: with aiokafka's
default of 16 KiB, the sender of a dead letter was woken 14 times."""
HEADERS_ALLOWANCE: Final = 16 * 1024
"""Bytes reserved for headers: more than headers take, except with unusually long ids."""
FORBIDDEN_BACKOFF: Final = 5.0
"""Seconds until a topic that this process may not write is tried again: each attempt costs a producer."""
STALLS_AFTER: Final = 15.0
"""Seconds of failing writes until the process is not ready."""
HEALTH_CHECK_INTERVAL: Final = 1.0


_TOO_LARGE: Final = (MessageSizeTooLargeError, RecordListTooLargeError)
_FORBIDDEN: Final = (
    TopicAuthorizationFailedError,
    ClusterAuthorizationFailedError,
    InvalidTopicError,
    PolicyViolationError,
)
_NOT_WRITTEN: Final = (
    OutOfOrderSequenceNumber,
    UnknownProducerId,
    InvalidProducerEpoch,
    ProducerFenced,
    ProducerClosed,
)
"""The record was refused because of an earlier one's error, or a closed producer: the next producer sends it again."""


class Producer:
    """Writes records; `async with Producer(…) as producer`.

    Poise's own topics are written idempotently: in order and without duplicates. Foreign topics have other producers,
    because what they refuse (a reply without a key in a compacted topic, a forbidden write) would make ours unusable.

    Args:
        connection: How to connect to the broker.
        limits: The size limits of topics.
        leaderless: Returns the partitions of a topic that have no leader, as the broker reported last.
        liveness: Where to report health.
    """

    def __init__(
        self,
        connection: Connection,
        limits: TopicLimits,
        leaderless: Callable[[str], frozenset[int]],
        liveness: Liveness,
    ) -> None:
        self.limits = limits
        self._connection = connection
        self._liveness = liveness
        self._producers: dict[tuple[bool, int], ReplacingProducer] = {}
        self._health = SendHealth(liveness.now, leaderless)
        self._forbidden: dict[str, tuple[KafkaError, float]] = {}
        """Poise's own topics that this process may not write, each with its error and the time of the next attempt."""
        self._component: Component | None = None
        self._health_task: asyncio.Task[Any] | None = None

    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            UnavailableError: No producer can be opened.
        """
        main = self._create_producer(own=True, size=BATCH_SIZES[0])
        try:
            async with asyncio.timeout(SEND_TIMEOUT):
                await asyncio.gather(main.ready(), self.limits.load())
        except TimeoutError as error:
            await self._close_producers()
            raise UnavailableError(
                f"no producer can be opened: {main.problem or 'the broker does not answer'}"
            ) from error
        except BaseException:
            await self._close_producers()
            raise
        self._component = self._liveness.component("producer", stalls_after=STALLS_AFTER)
        self._health_task = self._component.run(self._report_health(self._component))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Send pending records, and disconnect."""
        if self._component is not None:
            self._component.close()
        if self._health_task is not None:
            self._health_task.cancel()
            await asyncio.wait({self._health_task})
        await self._close_producers()

    async def _close_producers(self) -> None:
        await asyncio.gather(*(producer.close() for producer in self._producers.values()))

    # -- sending --------------------------------------------------------------------------------------------------

    async def send(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes | None,
        headers: Headers,
        partition: int | None = None,
    ) -> Position:
        """Write one record and wait for the broker's acknowledgement.

        Raises:
            RecordTooLargeError: It is larger than the topic's limit.
            UnavailableError: The broker did not accept it in time, or it is unknown whether it was written.
            TerminalError: A retry cannot succeed: the topic may not be written, or has no such partition.
        """
        own = topic.startswith(PREFIX)
        try:
            async with asyncio.timeout(SEND_TIMEOUT):
                written = await self._send_with_retries(topic, value, key, headers, partition)
        except (KafkaError, TimeoutError) as error:
            raise self._translate(topic, error, own=own) from error
        if own:
            self._health.succeeded(topic)
        count(semconv.SENT_MESSAGES, 1, {semconv.MESSAGING_DESTINATION: topic})
        return Position(written.topic, written.partition, written.offset, written.timestamp / 1_000)

    async def fits(self, topic: str, value: bytes) -> bool:
        """Return whether a value fits a topic, in a record with usual headers and without a key, as far as is known."""
        return len(value) + HEADERS_ALLOWANCE <= await self.limits.limit(topic)

    async def send_all(
        self, topic: str, records: Iterable[tuple[bytes, bytes]], headers: Headers
    ) -> list[BaseException]:
        """Write records (key, value) without a task for each; return the errors of those that were not written."""
        limit = self.limits.known.get(topic) or await self.limits.limit(topic)
        target = self._producer_for(topic, limit)
        lost: list[BaseException] = []
        sending: list[asyncio.Future[Any]] = []
        for key, value in records:
            if (size := size_of(key, value, headers)) > limit:
                lost.append(RecordTooLargeError(topic, size, limit))
                continue
            try:
                sending.append(await self._enqueue(target, topic, value, key, headers, None))
            except (PoiseError, KafkaError) as error:
                lost.append(error)
        for outcome in await asyncio.gather(*sending, return_exceptions=True):
            if isinstance(outcome, _TOO_LARGE):
                await self.limits.note_rejected(topic, limit, alone=False)
            if isinstance(outcome, BaseException):
                lost.append(outcome)
        return lost

    async def _send_with_retries(
        self, topic: str, value: bytes | None, key: bytes | None, headers: Headers, partition: int | None
    ) -> Any:
        """Send a record, and again if only another record's error prevented it."""
        size = size_of(key, value, headers)
        alone = len(headers) > MAX_HEADERS_IN_SHARED_BATCH
        while True:
            limit = self.limits.known.get(topic) or await self.limits.limit(topic)
            if size > limit:
                raise RecordTooLargeError(topic, size, limit)
            target = self._producer_for(topic, 1 if alone else limit)
            try:
                return await (await self._enqueue(target, topic, value, key, headers, partition))
            except _TOO_LARGE:  # the limit has changed, or is not known: then each record must go alone
                await self.limits.note_rejected(topic, size, alone=alone)
                alone = True
            except _NOT_WRITTEN as error:
                log.debug("a record for %s is sent again after %r", topic, error)

    async def _enqueue(  # noqa: PLR0917 - one record and its destination
        self,
        target: ReplacingProducer,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        headers: Headers,
        partition: int | None,
    ) -> "asyncio.Future[Any]":
        """Pass a record to aiokafka; return a future of the outcome, which may be cancelled without losing the record.

        Errors are recorded even if the caller is gone, because they also affect the producer.
        """
        if topic in self._forbidden:
            self._raise_forbidden(topic)
        producer = target.current or await target.ready()
        written = round(time.time() * 1_000)
        try:
            acknowledged = await producer.send(topic, value, key, partition, written, headers)
        except AssertionError as error:  # the topic has fewer partitions now, or the client does not know new ones yet
            await producer.client.force_metadata_update()
            raise UnavailableError(f"{topic} has no partition {partition}, as far as is known") from error
        except KafkaError as error:
            if is_fatal(error) or isinstance(error, _NOT_WRITTEN):
                target.report_failure(producer, error)
            raise
        outcome: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        acknowledged.add_done_callback(partial(self._on_acknowledged, target, producer, topic, written, outcome))
        if topic.startswith(PREFIX):
            self._health.sending(acknowledged, topic)
        return outcome

    def _on_acknowledged(  # noqa: PLR0917 - one record
        self,
        target: ReplacingProducer,
        producer: AIOKafkaProducer,
        topic: str,
        written: int,
        outcome: "asyncio.Future[Any]",
        acknowledged: "asyncio.Future[Any]",
    ) -> None:
        self._health.finished(acknowledged)
        error = acknowledged.exception()
        if error is not None:
            target.report_failure(producer, error)
            if topic.startswith(PREFIX):
                self._note_failure(topic, error)
        if outcome.done():
            return  # its caller is gone
        if error is None:
            # aiokafka returns the time of a batch's first record for all of them, but a run id needs the record's own.
            metadata = acknowledged.result()
            outcome.set_result(metadata if metadata.timestamp_type else metadata._replace(timestamp=written))
        else:
            outcome.set_exception(error)

    def _note_failure(self, topic: str, error: BaseException) -> None:
        """Record the error of a batch of Poise's own records, whose callers may be gone."""
        if isinstance(error, _FORBIDDEN):
            self._forbidden[topic] = error, self._liveness.now() + FORBIDDEN_BACKOFF
        elif not isinstance(error, (*_TOO_LARGE, *_NOT_WRITTEN)):
            self._health.failed(topic)

    def _raise_forbidden(self, topic: str) -> None:
        error, until = self._forbidden[topic]
        if self._liveness.now() < until:
            raise copy(error)
        del self._forbidden[topic]

    def _translate(self, topic: str, error: KafkaError | TimeoutError, *, own: bool) -> PoiseError:
        """Return the error to raise for an error of the broker.

        For Poise's own topics, only errors about the topic itself are final; others may not recur. For foreign topics,
        every error that is not retriable is final: otherwise the record would be retried for ever and block others.
        """
        message = f"the broker did not take a message for {topic}: {error_message(error, 'no answer in time'):.500}"
        final = _FORBIDDEN if own else BrokerResponseError
        if isinstance(error, final) and not getattr(error, "retriable", False):
            return TerminalError(message)
        if own:
            self._health.failed(topic)
        return UnavailableError(message)

    # -- producers ------------------------------------------------------------------------------------------------

    def _producer_for(self, topic: str, limit: int) -> ReplacingProducer:
        """Return the producer whose full batches are within a topic's limit."""
        own = topic.startswith(PREFIX)
        size = BATCH_SIZES[0] if limit >= BATCH_SIZES[0] else next(size for size in BATCH_SIZES if size <= limit)
        return self._producers.get((own, size)) or self._create_producer(own=own, size=size)

    def _create_producer(self, *, own: bool, size: int) -> ReplacingProducer:
        create = partial(
            AIOKafkaProducer,
            **self._connection.client_options(),
            acks="all",
            enable_idempotence=own,
            max_request_size=MAX_RECORD_BYTES,
            max_batch_size=size,
            request_timeout_ms=round(BATCH_EXPIRY * 1_000),
        )
        producer = self._producers[own, size] = ReplacingProducer(create, idempotent=own)
        return producer

    # -- health ---------------------------------------------------------------------------------------------------

    async def _report_health(self, component: Component) -> None:
        while True:
            await asyncio.sleep(HEALTH_CHECK_INTERVAL)
            await self.limits.refresh()
            problem = self.problem()
            if problem is None:
                component.progress()
            else:
                component.report_blocked(problem)

    def problem(self) -> str | None:
        """Return why this process cannot write to Poise's topics; None = it can."""
        for (own, _), producer in self._producers.items():
            if own and producer.problem is not None:
                return f"there is no producer: {producer.problem}"
        return self._health.problem()
