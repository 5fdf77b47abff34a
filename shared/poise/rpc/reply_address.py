"""Reply addresses: where an answer goes, checked before anything is sent there."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from poise.contracts.envelope import CORRELATION_ID, MAX_HEADER_BYTES, REPLY_PARTITION, STREAM_TO, Envelope
from poise.contracts.fault import FieldError
from poise.contracts.integers import read_integer
from poise.contracts.topics import PREFIX, REPLIES
from poise.errors import InvalidMessageError
from poise.kafka.record import Record


@dataclass(frozen=True, slots=True)
class ReplyAddress:
    """Where a reply goes, and what its reader recognises it by."""

    topic: str
    partition: int | None
    correlation_id: bytes | None

    def encode(self) -> bytes:
        """As `poise-stream-to` has it: the correlation id is the last part, byte by byte."""
        return b"%b/%d/%b" % (self.topic.encode(), self.partition or 0, self.correlation_id or b"")


class ReplyAddressResolver:
    """Checks addresses against the topics that exist.

    Args:
        partitions: The number of partitions of a topic, None if it does not exist; cached (a client that sends to an
            unknown topic blocks for 40 s).
    """

    def __init__(self, partitions: Callable[[str], Awaitable[int | None]]) -> None:
        self._partitions = partitions

    async def resolve(self, envelope: Envelope) -> ReplyAddress | None:
        """The reply address of a message, None if it wants no reply.

        Raises:
            InvalidMessageError: `reply_to` is a topic of Poise's other than `poise.replies`, or does not exist, or has
                no such partition.
        """
        topic, partition = envelope.reply_to, envelope.reply_partition
        if topic is None:
            return None
        if topic.startswith(PREFIX) and topic != REPLIES.name:
            raise _invalid_header(
                "reply_to", f"{topic!r} is a topic of Poise's own: name one of yours, or {REPLIES.name}"
            )
        partitions = await self._partitions(topic)
        if partitions is None:
            raise _invalid_header("reply_to", f"topic {topic!r} does not exist: create it first")
        if partition is None and topic == REPLIES.name:
            raise _invalid_header(REPLY_PARTITION, f"is needed with {REPLIES.name}: name the partition that you read")
        if partition is not None and partition >= partitions:
            raise _invalid_header(REPLY_PARTITION, f"{partition}: {topic} has the partitions 0 to {partitions - 1}")
        return ReplyAddress(topic, partition, envelope.correlation_id)

    async def resolve_stream(self, envelope: Envelope, *, public: bool) -> ReplyAddress | None:
        """The address that the words of a message's answer go to as they come, None if nobody asked for that.

        Args:
            envelope: The message's headers.
            public: Anyone may write to the topic that it came by. Then its words go where its reply goes, and nowhere
                else: another's address would have the mesh write into another's stream.

        Raises:
            InvalidMessageError: `poise-stream-to` is not `topic/partition/correlation id`, or not a place for replies,
                or, where that matters, not the one of the message's own reply.
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
        """The address of a message whose headers may be unreadable; None if there is none that can be used."""
        correlation_id = record.raw_header(CORRELATION_ID)
        if correlation_id is not None and len(correlation_id) > MAX_HEADER_BYTES:
            return None
        envelope = Envelope(
            reply_to=record.header("reply_to"),
            reply_partition=record.int_header(REPLY_PARTITION),  # no number is none: a topic of one's own needs none
            correlation_id=correlation_id,
        )
        try:
            return await self.resolve(envelope)
        except InvalidMessageError:
            return None  # the dead letter says what is wrong with it: there is nobody to tell


def _parse_stream_to(text: bytes, own: bytes | None) -> Envelope:
    """`topic/partition/correlation id`, or `topic/partition`, where the message's own correlation id is meant."""
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
    """Whether a stream's place is that of the reply: of one that names no partition, any partition of its topic."""
    return (
        wanted.reply_to == own.reply_to
        and own.reply_partition in {None, wanted.reply_partition}
        and (wanted.correlation_id or b"") == (own.correlation_id or b"")
    )


def _invalid_header(header: str, detail: str) -> InvalidMessageError:
    return InvalidMessageError(f"{header}: {detail}", [FieldError(field=header, detail=detail)])
