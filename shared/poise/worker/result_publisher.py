"""The result publisher of one topic: replies, dead letters and delayed retries of its messages."""

import logging

from poise.contracts.fault import Fault
from poise.contracts.topics import Topic
from poise.dead_letters.model import write_dead_letter
from poise.errors import DeadlineExceededError, MessageError, PoiseError, RecordTooLargeError, TerminalError
from poise.kafka.record import Position, Record
from poise.rpc.encoding import EncodedMessage
from poise.rpc.reply_address import ReplyAddress
from poise.telemetry import count, semconv
from poise.text.error_text import error_with_type
from poise.worker import delayed_retries
from poise.worker.connection import MeshConnection
from poise.worker.decoder import DecodedMessage
from poise.worker.retry_policy import FailedAttempt

log = logging.getLogger(__name__)


class ResultPublisher:
    """Publishes what becomes of the messages of one topic; each method returns after the broker's acknowledgement."""

    def __init__(self, mesh: MeshConnection, tier: str, topic: Topic) -> None:
        self._mesh = mesh
        self._tier = tier
        self._metric_labels = {semconv.MESSAGING_DESTINATION: topic.name}

    async def reply(self, message: DecodedMessage, reply: EncodedMessage) -> None:
        """Publish the reply to a message, if a caller waits for it.

        Raises:
            UnavailableError: The broker did not acknowledge it.
        """
        if message.address is None:
            return
        context = message.context
        try:
            await self._mesh.producer.reply(
                message.address, reply, run=context.run, step=context.step, stream=context.stream_writer
            )
        except TerminalError as error:  # the reply can never be written there: a retry would block other messages
            await self.dead_letter(context.record, error, attempt=context.attempt)

    async def dead_letter(self, record: Record, error: Exception, *, attempt: int = 1) -> Fault:
        """Dead-letter a record, and return the fault for its caller.

        Raises:
            UnavailableError: The broker did not acknowledge it.
        """
        position = await write_dead_letter(
            self._mesh.producer.records.send,
            self._tier,
            record,
            error,
            attempt=attempt,
            worker=self._mesh.settings.instance,
        )
        log.warning("%s was dead-lettered to %s: %s", record.position, position, error_with_type(error))
        count(
            semconv.DEAD_LETTERS,
            1,
            {semconv.TIER: self._tier, semconv.TOPIC: record.topic, semconv.ERROR_TYPE: type(error).__name__},
        )
        if isinstance(error, PoiseError):
            return error.fault()
        id_ = f"{self._tier}/{position.partition}/{position.offset}"  # as `poise dlq show` takes it
        return TerminalError(f"{self._tier} failed on the message ({type(error).__name__}): dead letter {id_}").fault()

    async def dead_letter_and_reply(self, record: Record, error: MessageError, *, run: str, step: str) -> None:
        """Dead-letter a record that cannot be decoded, and send its caller the fault, if its address can be read."""
        await self.dead_letter(record, error)
        address = await self._mesh.addresses.resolve_best_effort(record)
        if address is None:
            return
        try:
            await self._mesh.producer.reply(address, EncodedMessage.of(error.fault()), run=run, step=step)
        except TerminalError as failure:
            log.warning("the caller of the dead letter %s got no fault: %s", record.position, failure)

    async def retry_later(self, record: Record, error: Exception, delay: float, attempt: FailedAttempt) -> bool:
        """Write a message to its delayed-retry topic; `delay` is in seconds.

        Returns:
            False if the record arrived compressed and exceeds the record limit when decompressed.
        """
        number = attempt.delayed_retries + 1
        try:
            await delayed_retries.publish(
                self._mesh.producer.records.send, self._tier, record, delay=delay, attempts=attempt.number, count=number
            )
        except RecordTooLargeError:
            return False
        log.info("%s will be handled again in %.0f s: %s", record.position, delay, error_with_type(error))
        count(semconv.DELAYED_RETRIES, 1, {**self._metric_labels, semconv.ERROR_TYPE: type(error).__name__})
        return True

    async def expire_undelivered(self, address: ReplyAddress, position: Position, run: str, step: str) -> None:
        """Send the fault for a message that the broker did not deliver before the message's deadline."""
        count(semconv.DEADLINE_EXCEEDED, 1, self._metric_labels)
        reason = f"{position} is behind an open transaction of another client: the broker delivers nothing after it"
        await self._mesh.producer.reply(
            address, EncodedMessage.of(DeadlineExceededError(reason).fault()), run=run, step=step
        )
