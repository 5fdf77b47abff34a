"""The producer: the one way in which a process writes to Kafka, but for what it writes in transactions.

What a record takes is known before it is sent: one that is larger than its topic takes is refused here, and Kafka never
sees it. What ends in an error all the same uses up the Kafka producer underneath, which is then renewed.
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

from poise.contracts.topics import LARGEST_RECORD, PREFIX
from poise.errors import PoiseError, RecordTooLargeError, TerminalError, UnavailableError
from poise.kafka.connection import Connection
from poise.kafka.producer_health import SendHealth
from poise.kafka.record import Headers, Position
from poise.kafka.record_size import TopicLimits, size_of
from poise.kafka.renewing_producer import RenewingProducer, is_fatal
from poise.liveness import Liveness, Part
from poise.telemetry import count, semconv
from poise.text.error_text import words_of

log = logging.getLogger(__name__)

SEND_TIMEOUT: Final = 30.0
"""Seconds until a message counts as not taken. A cluster as Kafka ships it leaves a dead broker's partitions without a
leader for 9 s, twice that when the broker led the controllers too; the producer tries again all that time."""
BATCH_EXPIRY: Final = 40.0
"""Seconds after which a batch for a partition without a leader is given up, and a request that is not answered."""
BATCH_SIZES: Final = (256 * 1024, 64 * 1024, 16 * 1024, 4 * 1024, 1)
"""Bytes that are sent to a partition at once, by the largest that the topic takes; 1 = each record alone. Whoever finds
a batch full waits for the next, all of them together, so with few messages to a batch each is woken in vain many times:
14 times a dead letter with aiokafka's 16 KiB."""
HEADERS_ALLOWANCE: Final = 16 * 1024
"""Bytes that headers take at most, but for longer ids than anybody uses."""
FORBIDDEN_BACKOFF: Final = 5.0
"""Seconds for which a topic that the broker does not let us write is not tried again: each try uses up a producer."""
STALLS_AFTER: Final = 15.0
"""Seconds for which something may stand in the way of writing until the process is not ready."""
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
"""The record came behind another one's error, or to a producer that is closed: it is sent again by the next one."""


class Producer:
    """Writes records; `async with Producer(…) as producer`.

    Poise's own topics are written idempotently, in order and without copies. Other people's are not, for what these
    refuse (a compacted one a reply, which has no key; one that we may not write) would use up the producer of our own.

    Args:
        connection: How the broker is connected to.
        limits: What topics take.
        leaderless: The partitions of a topic that have no leader, as the broker said it last.
        liveness: Where the producer is a part of the process.
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
        self._producers: dict[tuple[bool, int], RenewingProducer] = {}
        self._health = SendHealth(liveness.now, leaderless)
        self._forbidden: dict[str, tuple[KafkaError, float]] = {}
        """Own topics that we may not write, and until when that is not tried again."""
        self._part: Part | None = None
        self._health_task: asyncio.Task[Any] | None = None

    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            UnavailableError: The broker gives us no producer.
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
        self._part = self._liveness.part("producer", stalls_after=STALLS_AFTER)
        self._health_task = self._part.run(self._report_health(self._part))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Write what is under way, and disconnect."""
        if self._part is not None:
            self._part.close()
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
        """Write one record as it is and wait for the broker's acknowledgement.

        Raises:
            RecordTooLargeError: It is larger than the topic takes.
            UnavailableError: The broker did not take it, or not in time, or nobody knows whether it did.
            TerminalError: It never will: the topic may not be written by us, or has no such partition.
        """
        own = topic.startswith(PREFIX)
        try:
            async with asyncio.timeout(SEND_TIMEOUT):
                landed = await self._send_with_retries(topic, value, key, headers, partition)
        except (KafkaError, TimeoutError) as error:
            raise self._translate(topic, error, own=own) from error
        if own:
            self._health.succeeded(topic)
        count(semconv.SENT_MESSAGES, 1, {semconv.MESSAGING_DESTINATION: topic})
        return Position(landed.topic, landed.partition, landed.offset, landed.timestamp / 1_000)

    async def fits(self, topic: str, value: bytes) -> bool:
        """Whether a topic takes a record without a key that has this value and usual headers, as far as is known."""
        return len(value) + HEADERS_ALLOWANCE <= await self.limits.limit(topic)

    async def send_all(
        self, topic: str, records: Iterable[tuple[bytes, bytes]], headers: Headers
    ) -> list[BaseException]:
        """Write records, key and value, without a task for each; returns what was wrong with those that were lost."""
        limit = self.limits.known.get(topic) or await self.limits.limit(topic)
        to = self._producer_for(topic, limit)
        lost: list[BaseException] = []
        sending: list[asyncio.Future[Any]] = []
        for key, value in records:
            if (size := size_of(key, value, headers)) > limit:
                lost.append(RecordTooLargeError(topic, size, limit))
                continue
            try:
                sending.append(await self._enqueue(to, topic, value, key, headers, None))
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
        """Send, and send again where only another one's error kept it from being written."""
        size = size_of(key, value, headers)
        alone = False
        while True:
            limit = self.limits.known.get(topic) or await self.limits.limit(topic)
            if size > limit:
                raise RecordTooLargeError(topic, size, limit)
            to = self._producer_for(topic, 1 if alone else limit)
            try:
                return await (await self._enqueue(to, topic, value, key, headers, partition))
            except _TOO_LARGE:  # the limit is another one by now, or is not known: then each record has to go alone
                await self.limits.note_rejected(topic, size, alone=alone)
                alone = True
            except _NOT_WRITTEN as error:
                log.debug("a record for %s is sent again after %r", topic, error)

    async def _enqueue(  # noqa: PLR0917 - all of it is one record, and where it goes
        self,
        to: RenewingProducer,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        headers: Headers,
        partition: int | None,
    ) -> "asyncio.Future[Any]":
        """Hand a record to aiokafka; what is returned tells its outcome, and may be cancelled: the record goes on.

        A caller that has gone must not hide an error from us: it is the producer's as well.
        """
        if topic in self._forbidden:
            self._raise_forbidden(topic)
        producer = to.current or await to.ready()
        written = round(time.time() * 1_000)
        try:
            acknowledged = await producer.send(topic, value, key, partition, written, headers)
        except AssertionError as error:  # the topic has got fewer partitions, or the client has not heard of more
            await producer.client.force_metadata_update()
            raise UnavailableError(f"{topic} has no partition {partition}, as far as is known") from error
        except KafkaError as error:
            if is_fatal(error) or isinstance(error, _NOT_WRITTEN):
                to.report_failure(producer, error)
            raise
        outcome: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        acknowledged.add_done_callback(partial(self._on_acknowledged, to, producer, topic, written, outcome))
        if topic.startswith(PREFIX):
            self._health.sending(acknowledged, topic)
        return outcome

    def _on_acknowledged(  # noqa: PLR0917 - all of it is one record
        self,
        to: RenewingProducer,
        producer: AIOKafkaProducer,
        topic: str,
        written: int,
        outcome: "asyncio.Future[Any]",
        acknowledged: "asyncio.Future[Any]",
    ) -> None:
        self._health.finished(acknowledged)
        error = acknowledged.exception()
        if error is not None:
            to.report_failure(producer, error)
            if topic.startswith(PREFIX):
                self._note_failure(topic, error)
        if outcome.done():
            return  # its caller has gone
        if error is None:
            # aiokafka tells each record of a batch the time of the first, and a run is named after its own.
            landed = acknowledged.result()
            outcome.set_result(landed if landed.timestamp_type else landed._replace(timestamp=written))
        else:
            outcome.set_exception(error)

    def _note_failure(self, topic: str, error: BaseException) -> None:
        """Note what a batch of our own ended with, though the callers of its records may have gone before it did."""
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
        """An error of the broker's as the caller is told of it.

        Of our own topics only what is said of the topic is final: anything else may be otherwise the next time. What
        another topic refuses for good would be tried for ever, and hold others up.
        """
        told = f"the broker did not take a message for {topic}: {words_of(error, 'no answer in time'):.500}"
        final = _FORBIDDEN if own else BrokerResponseError
        if isinstance(error, final) and not getattr(error, "retriable", False):
            return TerminalError(told)
        if own:
            self._health.failed(topic)
        return UnavailableError(told)

    # -- which producer -------------------------------------------------------------------------------------------

    def _producer_for(self, topic: str, limit: int) -> RenewingProducer:
        """The producer whose batches fit a topic, however many records they have."""
        own = topic.startswith(PREFIX)
        size = BATCH_SIZES[0] if limit >= BATCH_SIZES[0] else next(size for size in BATCH_SIZES if size <= limit)
        return self._producers.get((own, size)) or self._create_producer(own=own, size=size)

    def _create_producer(self, *, own: bool, size: int) -> RenewingProducer:
        make = partial(
            AIOKafkaProducer,
            **self._connection.client_options(),
            acks="all",
            enable_idempotence=own,
            max_request_size=LARGEST_RECORD,
            max_batch_size=size,
            request_timeout_ms=round(BATCH_EXPIRY * 1_000),
        )
        made = self._producers[own, size] = RenewingProducer(make, idempotent=own)
        return made

    # -- being alive ----------------------------------------------------------------------------------------------

    async def _report_health(self, part: Part) -> None:
        while True:
            await asyncio.sleep(HEALTH_CHECK_INTERVAL)
            await self.limits.refresh()
            problem = self.problem()
            if problem is None:
                part.progress()
            else:
                part.wait(problem)

    def problem(self) -> str | None:
        """What keeps this process from writing to Poise's topics, in words; None = nothing does."""
        for (own, _), producer in self._producers.items():
            if own and producer.problem is not None:
                return f"there is no producer: {producer.problem}"
        return self._health.problem()
