"""Transactions: several records become visible together or not at all, written by one producer at a time."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import IllegalOperation, KafkaError, MessageSizeTooLargeError, ProducerFenced

from poise.contracts.topics import MAX_RECORD_BYTES
from poise.errors import RecordTooLargeError, RetryableError, TerminalError, UnavailableError
from poise.kafka.connection import Connection
from poise.kafka.patches.producer_close import close
from poise.kafka.record import Headers, Position
from poise.kafka.shielded import shielded_start, shielded_stop
from poise.telemetry import count, semconv
from poise.text.error_text import error_message

log = logging.getLogger(__name__)

OPEN_TIMEOUT: Final = 30.0
"""Seconds; includes the time in which the broker ends the open transaction of a dead producer."""
TRANSACTION_TIMEOUT: Final = 10.0
"""Seconds after which the broker aborts the transaction of a dead producer; until then it blocks `read_committed`
consumers."""
CLOSE_TIMEOUT: Final = 5.0
VISIBILITY_TIMEOUT: Final = 5.0
VISIBILITY_POLL_INTERVAL: Final = 0.02


@dataclass(frozen=True, slots=True)
class ProducerRecord:
    """A record to write."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers
    partition: int | None = None


class TransactionalProducer:
    """A producer with a transactional id; `async with TransactionalProducer(connection, id) as producer`.

    Opening it fences an earlier producer with the same id: its open transaction is aborted, everything that it
    committed is visible, and nothing more of it will be. When the block ends, what it has committed is visible.

    Raises:
        UnavailableError: The broker does not answer.
    """

    def __init__(self, connection: Connection, transactional_id: str) -> None:
        self.transactional_id = transactional_id
        self._options = connection.client_options()
        self._written: dict[TopicPartition, int] = {}
        self._producer = AIOKafkaProducer(
            **self._options,
            transactional_id=transactional_id,
            transaction_timeout_ms=round(TRANSACTION_TIMEOUT * 1_000),
            max_request_size=MAX_RECORD_BYTES,
        )
        self._usable = True

    async def __aenter__(self) -> Self:
        """Fence any earlier producer with this id."""
        try:
            async with asyncio.timeout(OPEN_TIMEOUT):
                await shielded_start(self._producer.start())
        except (KafkaError, TimeoutError) as error:
            await self._close()
            raise UnavailableError(
                f"transactions of {self.transactional_id} cannot be opened: {error_message(error)}"
            ) from error
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Wait until committed records are visible, and disconnect."""
        try:
            if kind is None and self._written:
                await self._wait_until_visible()
        finally:
            await self._close()

    async def _wait_until_visible(self) -> None:
        # Kafka acknowledges a commit before it has written the markers to all partitions: a reader that comes at once
        # would miss the records. (The next producer with this id waits for that when it opens.)
        consumer = AIOKafkaConsumer(**self._options, isolation_level="read_committed")
        try:
            async with asyncio.timeout(VISIBILITY_TIMEOUT):
                await consumer.start()
                while not await self._is_visible(consumer):  # noqa: ASYNC110 - the broker does not signal it
                    await asyncio.sleep(VISIBILITY_POLL_INTERVAL)
        except (KafkaError, TimeoutError) as error:
            log.warning("what %s committed is not visible yet: %s", self.transactional_id, error_message(error))
        finally:
            await shielded_stop(consumer.stop())

    async def _is_visible(self, consumer: AIOKafkaConsumer) -> bool:
        ends = await consumer.end_offsets(list(self._written))
        return all(ends[partition] > offset for partition, offset in self._written.items())

    async def _close(self) -> None:
        await close(self._producer, within=CLOSE_TIMEOUT)

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator["Transaction"]:
        """Run one transaction: committed at the end of the block, aborted if it raises. None can follow after an error.

        Raises:
            ProducerFencedError: Another producer with this id has fenced this one; nothing was committed.
            RecordTooLargeError: A record is larger than its topic allows; nothing was committed.
            UnavailableError: The broker did not answer; the next producer with this id sees whether it was committed.
        """
        if not self._usable:
            raise TerminalError(f"a transaction of {self.transactional_id} failed: open a new producer")
        self._usable = False
        committing = False
        try:
            async with asyncio.timeout(TRANSACTION_TIMEOUT):
                await self._producer.begin_transaction()
                transaction = Transaction(self._producer)
                yield transaction
                committing = True
                await self._producer.commit_transaction()
                self._written |= transaction.written
        except BaseException as error:
            if not committing:
                await self._abort()
            translated = self._translate(error)
            if translated is error:
                raise
            raise translated from error
        self._usable = True

    async def _abort(self) -> None:
        # What cannot be aborted now is aborted by the broker, or by the next producer with this id.
        with contextlib.suppress(KafkaError, TimeoutError, AssertionError):  # aiokafka asserts that it is not fenced
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self._producer.abort_transaction()
        # After fencing, aiokafka keeps the error in a future that nothing reads; asyncio would log that at length.
        ended = self._producer._txn_manager.wait_for_transaction_end()  # noqa: SLF001 - not public
        if ended is not None and ended.done() and not ended.cancelled():
            ended.exception()

    def _translate(self, error: BaseException) -> BaseException:
        match error:
            case ProducerFenced() | IllegalOperation():  # aiokafka raises the second once it knows of the first
                return ProducerFencedError(
                    f"{self.transactional_id} was fenced by another producer, or its transaction timed out"
                )
            case KafkaError() | TimeoutError():
                return UnavailableError(
                    f"the broker did not commit a transaction of {self.transactional_id}: {error_message(error)}"
                )
        return error


class ProducerFencedError(RetryableError):
    """Another producer with the same transactional id has fenced this one, or the transaction timed out."""


class Transaction:
    """The records that are written in one transaction."""

    def __init__(self, producer: AIOKafkaProducer) -> None:
        self.written: dict[TopicPartition, int] = {}
        """By partition: the last offset."""
        self._producer = producer

    async def send(self, records: Sequence[ProducerRecord]) -> list[Position]:
        """Write records in order, and wait for the acknowledgements; they become visible at the commit.

        Raises:
            RecordTooLargeError: A record, or a batch that it shares with others, is larger than its topic allows.
        """
        sending: list[asyncio.Future[Any]] = []
        try:
            for record in records:
                sending.append(await self._enqueue(record))  # noqa: PERF401 - awaited below even if a later one fails
        finally:
            acknowledged = await asyncio.gather(*sending, return_exceptions=True)
        for record, failure in zip(records, acknowledged, strict=True):
            if isinstance(failure, MessageSizeTooLargeError):
                raise RecordTooLargeError(record.topic) from failure
            if isinstance(failure, BaseException):
                raise failure
        positions = [Position(r.topic, r.partition, r.offset) for r in acknowledged if not isinstance(r, BaseException)]
        for position in positions:
            self.written[TopicPartition(position.topic, position.partition)] = position.offset
            count(semconv.SENT_MESSAGES, 1, {semconv.MESSAGING_DESTINATION: position.topic})
        return positions

    async def _enqueue(self, record: ProducerRecord) -> asyncio.Future[Any]:
        """Add a record to the producer's batches; return the future of its acknowledgement."""
        try:
            acknowledged: asyncio.Future[Any] = await self._producer.send(
                record.topic, record.value, key=record.key, headers=record.headers, partition=record.partition
            )
        except MessageSizeTooLargeError as error:  # larger than any topic of Poise allows
            raise RecordTooLargeError(record.topic) from error
        return acknowledged
