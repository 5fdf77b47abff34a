"""Transactions: several records that are there together or not at all, written by one writer at a time."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import IllegalOperation, KafkaError, MessageSizeTooLargeError, ProducerFenced

from poise.contracts.topics import LARGEST_RECORD
from poise.errors import RetryableError, TerminalError, UnavailableError
from poise.kafka.connection import Connection
from poise.kafka.patches.producer_close import close
from poise.kafka.record import Headers, Position
from poise.kafka.shielded_start import shielded_start
from poise.telemetry import count, semconv
from poise.text.error_text import words_of

log = logging.getLogger(__name__)

OPEN_TIMEOUT: Final = 30.0
"""Seconds; what a writer that died left open is ended by the broker first."""
TRANSACTION_TIMEOUT: Final = 10.0
"""Seconds after which the broker ends a transaction whose writer has died: until then, those who read only what is
committed wait before its records."""
CLOSE_TIMEOUT: Final = 5.0
VISIBILITY_TIMEOUT: Final = 5.0
VISIBILITY_POLL_INTERVAL: Final = 0.02


@dataclass(frozen=True, slots=True)
class ProducerRecord:
    """One record to be written."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers
    partition: int | None = None


class TransactionalProducer:
    """Transactions under a name; `async with Transactions(connection, name) as transactions`.

    Whoever opens them under the same name shuts out who had them open: a transaction that had begun is aborted, and
    when this is open, everything that was committed under the name before can be read, and nothing more will come. When
    the block ends, what it has committed can be read.

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
            max_request_size=LARGEST_RECORD,
        )
        self._usable = True

    async def __aenter__(self) -> Self:
        """Shut out whoever had them open."""
        try:
            async with asyncio.timeout(OPEN_TIMEOUT):
                await shielded_start(self._producer.start())
        except (KafkaError, TimeoutError) as error:
            await self._close()
            raise UnavailableError(
                f"transactions of {self.transactional_id} cannot be opened: {words_of(error)}"
            ) from error
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Wait until what was committed can be read, and disconnect."""
        try:
            if kind is None and self._written:
                await self._wait_until_visible()
        finally:
            await self._close()

    async def _wait_until_visible(self) -> None:
        # Kafka says that a transaction is committed before it has told the partitions: a reader that comes at once
        # would be shown what was before. Whoever opens these transactions next waits for it by opening them.
        consumer = AIOKafkaConsumer(**self._options, isolation_level="read_committed")
        try:
            async with asyncio.timeout(VISIBILITY_TIMEOUT):
                await consumer.start()
                while not await self._is_visible(consumer):  # noqa: ASYNC110 - the broker tells nobody
                    await asyncio.sleep(VISIBILITY_POLL_INTERVAL)
        except (KafkaError, TimeoutError) as error:
            log.warning("what %s committed cannot be read yet: %s", self.transactional_id, words_of(error))
        finally:
            await consumer.stop()

    async def _is_visible(self, consumer: AIOKafkaConsumer) -> bool:
        ends = await consumer.end_offsets(list(self._written))
        return all(ends[partition] > offset for partition, offset in self._written.items())

    async def _close(self) -> None:
        await close(self._producer, within=CLOSE_TIMEOUT)

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator["Transaction"]:
        """One transaction: committed at the end of the block, or aborted if it raises. After an error, no other begins.

        Raises:
            RetryableError: Somebody else has opened transactions of this name since; nothing of this one counts.
            TerminalError: A record is larger than the broker takes; nothing of this one counts.
            UnavailableError: The broker did not answer; whether it counts, the next to open them will see.
        """
        if not self._usable:
            raise TerminalError(f"a transaction {self.transactional_id} failed: open them anew")
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
            told = self._translate(error)
            if told is error:
                raise
            raise told from error
        self._usable = True

    async def _abort(self) -> None:
        # What cannot be aborted now is ended by the broker, or by whoever opens them next.
        with contextlib.suppress(KafkaError, TimeoutError, AssertionError):  # aiokafka asserts that it was not shut out
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self._producer.abort_transaction()
        # aiokafka keeps the error in a future that nobody asks once it was shut out: asyncio would log that, at length.
        ended = self._producer._txn_manager.wait_for_transaction_end()  # noqa: SLF001 - has no public way
        if ended is not None and ended.done() and not ended.cancelled():
            ended.exception()

    def _translate(self, error: BaseException) -> BaseException:
        match error:
            case ProducerFenced() | IllegalOperation():  # the second is what aiokafka says once it knows of the first
                return RetryableError(
                    f"{self.transactional_id} was fenced by another producer, or its transaction timed out"
                )
            case MessageSizeTooLargeError():
                return TooLargeError(f"a record is larger than its topic takes: {error}")
            case KafkaError() | TimeoutError():
                return UnavailableError(
                    f"the broker did not commit a transaction of {self.transactional_id}: {words_of(error)}"
                )
        return error


class TooLargeError(TerminalError):
    """A record is larger than its topic takes."""


class Transaction:
    """What is written in one transaction."""

    def __init__(self, producer: AIOKafkaProducer) -> None:
        self.written: dict[TopicPartition, int] = {}
        """The last offset by partition."""
        self._producer = producer

    async def send(self, records: Sequence[ProducerRecord]) -> list[Position]:
        """Write records, in order, and wait until the broker has them; nobody sees them before the commit."""
        sending: list[asyncio.Future[Any]] = []
        try:
            for record in records:
                future = await self._producer.send(
                    record.topic, record.value, key=record.key, headers=record.headers, partition=record.partition
                )
                sending.append(future)
        finally:
            landed = await asyncio.gather(*sending, return_exceptions=True)
        for failure in landed:
            if isinstance(failure, BaseException):
                raise failure
        positions = [Position(at.topic, at.partition, at.offset) for at in landed if not isinstance(at, BaseException)]
        for at in positions:
            self.written[TopicPartition(at.topic, at.partition)] = at.offset
            count(semconv.SENT_MESSAGES, 1, {semconv.MESSAGING_DESTINATION: at.topic})
        return positions
