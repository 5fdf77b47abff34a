"""Reply addresses: where an answer goes, checked before anything is sent there."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from poise.contracts.envelope import LONGEST_TEXT, REPLY_PARTITION, STREAM_TO, Envelope, EnvelopeError
from poise.contracts.fault import FieldError
from poise.contracts.topics import PREFIX, REPLIES
from poise.errors import InvalidMessageError
from poise.messaging.record import Record

_LONGEST_NUMBER: Final = 18


@dataclass(frozen=True, slots=True)
class Address:
    """Where a reply goes, and what its reader recognises it by."""

    topic: str
    partition: int | None
    correlation_id: str | None

    def __str__(self) -> str:
        """As `poise-stream-to` has it."""
        return f"{self.topic}/{self.partition or 0}/{self.correlation_id or ''}"


class Addresses:
    """Checks addresses against the topics that exist.

    Args:
        partitions: The number of partitions of a topic, None if it does not exist; cached (a client that sends to an
            unknown topic blocks for 40 s).
    """

    def __init__(self, partitions: Callable[[str], Awaitable[int | None]]) -> None:
        self._partitions = partitions

    async def resolve(self, envelope: Envelope) -> Address | None:
        """The reply address of a message, None if it wants no reply.

        Raises:
            InvalidMessageError: `reply_to` is a topic of Poise's other than `poise.replies`, or does not exist, or has
                no such partition.
        """
        topic, partition = envelope.reply_to, envelope.reply_partition
        if topic is None:
            return None
        if topic.startswith(PREFIX) and topic != REPLIES.name:
            raise _invalid("reply_to", f"{topic!r} is a topic of Poise's own: name one of yours, or {REPLIES.name}")
        partitions = await self._partitions(topic)
        if partitions is None:
            raise _invalid("reply_to", f"topic {topic!r} does not exist: create it first")
        if partition is None and topic == REPLIES.name:
            raise _invalid(REPLY_PARTITION, f"is needed with {REPLIES.name}: name the partition that you read")
        if partition is not None and partition >= partitions:
            raise _invalid(REPLY_PARTITION, f"{partition}: {topic} has the partitions 0 to {partitions - 1}")
        return Address(topic, partition, envelope.correlation_id)

    async def stream(self, envelope: Envelope) -> Address | None:
        """The address that the words of a message's answer go to as they come, None if nobody asked for that.

        Raises:
            InvalidMessageError: `poise-stream-to` is not `topic/partition/correlation id`, or not a place for replies.
        """
        if envelope.stream_to is None:
            return None
        topic, _, rest = envelope.stream_to.partition("/")
        partition, slash, correlation_id = rest.partition("/")
        if not slash or not (partition.isascii() and partition.isdigit() and len(partition) <= _LONGEST_NUMBER):
            raise _invalid(STREAM_TO, f"{envelope.stream_to[:80]!r} is not topic/partition/correlation id")
        wanted = Envelope(reply_to=topic, reply_partition=int(partition), correlation_id=correlation_id)
        try:
            return await self.resolve(wanted)
        except InvalidMessageError as error:
            raise _invalid(STREAM_TO, error.errors[0].detail) from error

    async def salvage(self, record: Record) -> Address | None:
        """The address of a message whose headers may be unreadable; None if there is none that can be used."""
        correlation_id = record.header("correlation_id")
        if correlation_id is not None and len(correlation_id) > LONGEST_TEXT:
            return None
        envelope = Envelope(
            reply_to=record.header("reply_to"),
            reply_partition=_partition(record),
            correlation_id=correlation_id,
        )
        try:
            return await self.resolve(envelope)
        except InvalidMessageError:
            return None  # the dead letter says what is wrong with it: there is nobody to tell


def _partition(record: Record) -> int | None:
    """The reply partition, None where the header is no number: a topic of one's own needs none."""
    try:
        return Envelope.read(item for item in record.headers if item[0] == REPLY_PARTITION).reply_partition
    except EnvelopeError:
        return None


def _invalid(header: str, detail: str) -> InvalidMessageError:
    return InvalidMessageError(f"{header}: {detail}", [FieldError(field=header, detail=detail)])
