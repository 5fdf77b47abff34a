"""Reply addresses: the destination of a reply or stream, validated before anything is sent there."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from poise.contracts.envelope import MAX_HEADER_BYTES, Envelope
from poise.contracts.fault import FieldError
from poise.contracts.headers import CORRELATION_ID, REPLY_PARTITION, REPLY_TO, STREAM_TO
from poise.contracts.integers import read_integer
from poise.contracts.topics import PREFIX, REPLIES
from poise.errors import InvalidMessageError
from poise.kafka.record import Record


@dataclass(frozen=True, slots=True)
class ReplyAddress:
    """The destination of a reply, and the correlation id by which its reader recognizes it."""

    topic: str
    partition: int | None
    correlation_id: bytes | None

    def encode(self) -> bytes:
        """Return the value of `poise-stream-to`; the correlation id is the last part, unchanged."""
        return b"%b/%d/%b" % (self.topic.encode(), self.partition or 0, self.correlation_id or b"")


class ReplyAddressResolver:
    """Resolves the addresses in headers, and validates them against the existing topics.

    Args:
        partitions: Returns the number of partitions of a topic, None if it does not exist; cached, because Kafka's
            client blocks for 40 s on an unknown topic.
    """

    def __init__(self, partitions: Callable[[str], Awaitable[int | None]]) -> None:
        self._partitions = partitions

    async def resolve(self, envelope: Envelope) -> ReplyAddress | None:
        """Return the reply address of a message, None if it wants no reply.

        Raises:
            InvalidMessageError: `reply_to` is a topic of Poise other than `poise.replies`, does not exist, or has no
                such partition.
        """
        topic, partition = envelope.reply_to, envelope.reply_partition
        if topic is None:
            return None
        if topic.startswith(PREFIX) and topic != REPLIES.name:
            raise _invalid_header(
                REPLY_TO, f"{topic!r} is reserved for Poise: name a topic of yours, or {REPLIES.name}"
            )
        partitions = await self._partitions(topic)
        if partitions is None:
            raise _invalid_header(REPLY_TO, f"topic {topic!r} does not exist: create it first")
        if partition is None and topic == REPLIES.name:
            raise _invalid_header(REPLY_PARTITION, f"is required with {REPLIES.name}: name the partition that you read")
        if partition is not None and partition >= partitions:
            raise _invalid_header(REPLY_PARTITION, f"{partition}: {topic} has the partitions 0 to {partitions - 1}")
        return ReplyAddress(topic, partition, envelope.correlation_id)

    async def resolve_stream(self, envelope: Envelope, *, public: bool) -> ReplyAddress | None:
        """Return the address for the text of a message's answer, None if no stream is requested.

        Args:
            envelope: The message's headers.
            public: Any client may write to the message's topic. Then the stream must have the address of the reply:
                any other address would let a client write into the stream of another caller.

        Raises:
            InvalidMessageError: `poise-stream-to` is not `topic/partition/correlation id`, or not a valid reply
                address, or, on a public topic, not the message's own reply address.
        """
        if envelope.stream_to is None:
            return None
        wanted = _parse_stream_to(envelope.stream_to, envelope.correlation_id)
        try:
            address = await self.resolve(wanted)
        except InvalidMessageError as error:
            raise _invalid_header(STREAM_TO, error.errors[0].detail) from error
        if public and not _is_own_address(wanted, envelope):
            raise _invalid_header(
                STREAM_TO, "must be the message's own reply_to, poise-reply-partition and correlation_id"
            )
        return address

    async def resolve_best_effort(self, record: Record) -> ReplyAddress | None:
        """Return the reply address of a message whose headers may be unreadable; None if no usable one is found."""
        correlation_id = record.raw_header(CORRELATION_ID)
        if correlation_id is not None and len(correlation_id) > MAX_HEADER_BYTES:
            return None
        envelope = Envelope(
            reply_to=record.header(REPLY_TO),
            reply_partition=record.int_header(REPLY_PARTITION),  # optional: an unreadable number counts as none
            correlation_id=correlation_id,
        )
        try:
            return await self.resolve(envelope)
        except InvalidMessageError:
            return None  # the dead letter has the reason: no caller can be reached


def _parse_stream_to(text: bytes, own: bytes | None) -> Envelope:
    """Parse `topic/partition/correlation id`; `topic/partition` implies the message's own correlation id."""
    topic, _, rest = text.partition(b"/")
    number, slash, correlation_id = rest.partition(b"/")
    partition = read_integer(number)
    if partition is None or not topic:
        raise _invalid_header(
            STREAM_TO, f"{text[:80].decode(errors='replace')!r} is not topic/partition/correlation id"
        )
    return Envelope(
        reply_to=topic.decode(errors="replace"),
        reply_partition=partition,
        correlation_id=correlation_id if slash else own,
    )


def _is_own_address(wanted: Envelope, own: Envelope) -> bool:
    """Return whether a stream has the address of the reply; a reply without a partition matches any of its topic."""
    return (
        wanted.reply_to == own.reply_to
        and own.reply_partition in {None, wanted.reply_partition}
        and (wanted.correlation_id or b"") == (own.correlation_id or b"")
    )


def _invalid_header(header: str, detail: str) -> InvalidMessageError:
    return InvalidMessageError(f"{header}: {detail}", [FieldError(field=header, detail=detail)])
