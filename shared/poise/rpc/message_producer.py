"""Publishing messages: bodies and headers as records, and the replies to requests."""

from poise.contracts.envelope import Envelope
from poise.contracts.fault import Fault
from poise.contracts.headers import CONTENT_TYPE, KIND
from poise.contracts.message import Message
from poise.contracts.topics import Topic
from poise.errors import RecordTooLargeError
from poise.kafka.producer import Producer
from poise.kafka.record import Position
from poise.rpc.encoding import JSON, EncodedMessage, encode, encode_headers
from poise.rpc.reply_address import ReplyAddress
from poise.rpc.stream_writer import StreamWriter
from poise.telemetry import inject


class MessageProducer:
    """Publishes messages.

    Args:
        records: The producer of raw records: `records.send` beside `publish`, which encodes a message.
    """

    def __init__(self, records: Producer) -> None:
        self.records = records

    async def publish(
        self,
        topic: Topic,
        message: Message | None,
        *,
        key: str | None,
        partition: int | None = None,
        envelope: Envelope | None = None,
    ) -> Position:
        """Publish a message and wait for the broker's acknowledgement; None is a tombstone.

        Args:
            topic: The topic.
            message: The message.
            key: The record's key.
            partition: The partition; None = by the key.
            envelope: The headers; None = those of no run.

        Raises:
            UnavailableError: The broker did not acknowledge it.
            EncodingError: It has a field, or a header, that cannot be written.
            TerminalError: It is larger than the topic allows.
        """
        headers = encode_headers(envelope or Envelope())
        # Appended to the encoded headers: a copy of the envelope would take longer than the rest of this function.
        added = {} if message is None else {KIND: message.kind, CONTENT_TYPE: JSON}
        headers += [(name, value.encode()) for name, value in (added | inject()).items()]
        return await self.records.send(
            topic.name,
            None if message is None else encode(message),
            key=None if key is None else key.encode(),
            headers=headers,
            partition=partition,
        )

    async def reply(
        self, address: ReplyAddress, reply: EncodedMessage, *, run: str, step: str, stream: StreamWriter | None = None
    ) -> None:
        """Publish the reply to a request, after all of its stream; a reply that is too large becomes a fault."""
        # A fault replaces a reply that is too large, so the stream is not finished with that reply.
        fits = stream and await self.records.fits(address.topic, reply.body)
        position = await stream.finish(reply.message) if stream and fits else None
        envelope = Envelope(
            correlation_id=address.correlation_id,
            run=run,
            step=step,
            kind=reply.kind,
            content_type=JSON,
            stream=position.attempt if position else None,
            seq=position.seq if position else None,
            trace=inject(),
        )
        headers = encode_headers(envelope)
        try:
            await self.records.send(address.topic, reply.body, key=None, headers=headers, partition=address.partition)
        except RecordTooLargeError as error:
            message = reply.message
            instead = message.shortened() if isinstance(message, Fault) else error.fault()
            if instead == message:
                raise
            await self.reply(address, EncodedMessage.of(instead), run=run, step=step, stream=stream)

    async def max_record_size(self, topic: str) -> int:
        """Return the bytes that a record of a topic may have, key and headers included."""
        return await self.records.limits.limit(topic)
