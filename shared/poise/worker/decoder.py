"""The message decoder of one topic: turns a record into a validated request, its context and its reply address."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from pydantic import ValidationError

from poise.contracts.document import Deletion
from poise.contracts.envelope import MAX_HEADER_BYTES, Envelope, EnvelopeError
from poise.contracts.fault import FieldError
from poise.contracts.headers import KIND, RUN, STEP
from poise.contracts.integers import read_integer
from poise.contracts.message import Message
from poise.contracts.run_id import ROOT_STEP, derive_run_id
from poise.contracts.topics import Topic
from poise.errors import InvalidMessageError, NewerVersionError
from poise.kafka.record import Record
from poise.kafka.undecodable import undecodable_error
from poise.redis.client import RedisClient
from poise.rpc.deadlines import resolve_deadline
from poise.rpc.reply_address import ReplyAddress
from poise.rpc.stream_writer import StreamLimits, StreamWriter
from poise.worker.connection import MeshConnection
from poise.worker.context import Context
from poise.worker.delayed_retries import DelayedRetry


@dataclass(frozen=True, slots=True)
class DecodedMessage:
    """A message that its topic accepts."""

    request: Message
    context: Context
    address: ReplyAddress | None
    """None = no caller waits for a reply."""
    delayed_retries: int
    """How often it was on a delayed-retry topic."""


class MessageDecoder:
    """Decodes the messages of one topic.

    Headers that name a run, step, tenant or attempt are ignored on a public topic: any client can write them there.
    """

    def __init__(self, mesh: MeshConnection, redis: RedisClient, topic: Topic) -> None:
        self._mesh = mesh
        self._redis = redis
        self._topic = topic
        self._message_types: Mapping[str, type[Message]] = {accepted.kind: accepted for accepted in topic.accepts}

    async def decode(self, record: Record, retry: DelayedRetry | None) -> DecodedMessage:
        """Decode a record; `retry` is set if it comes from a delayed-retry topic.

        Raises:
            NewerVersionError: Only a worker of a newer version can decode it.
            InvalidMessageError: The record violates the contract.
            UnavailableError: The broker did not answer whether the reply's topic exists.
        """
        if record.undecodable is not None:
            raise undecodable_error(record)
        try:
            envelope = Envelope.read(record.headers)
        except EnvelopeError as error:
            raise InvalidMessageError(str(error), [error.error]) from error
        deadline = resolve_deadline(envelope.deadline, record.timestamp, self._topic.deadlines)
        message_type = self._message_type(record, envelope)
        address = await self._mesh.addresses.resolve(envelope)
        stream_to = await self._mesh.addresses.resolve_stream(envelope, public=self._topic.public)
        try:
            request = (
                message_type()
                if message_type is Deletion
                else message_type.parse(record.value or b"", strict=self._topic.public)
            )
        except ValidationError as error:
            # Without its cause, which repeats the invalid input: a hostile body would fill a hundred megabytes.
            raise InvalidMessageError.of(error) from None
        context = self.context(record, envelope, deadline)
        if retry is not None:
            context = replace(context, attempt=retry.attempts + 1)
        if stream_to is not None:
            replies_there = address is not None and (address.correlation_id or b"") == (stream_to.correlation_id or b"")
            limits = StreamLimits(interval=self._mesh.settings.stream_interval)
            stream_writer = StreamWriter(
                stream_to, self._mesh.producer.records.send, run=context.run, ends=replies_there, limits=limits
            )
            context = replace(context, stream_writer=stream_writer)
        return DecodedMessage(request, context, address, retry.count if retry else 0)

    def _message_type(self, record: Record, envelope: Envelope) -> type[Message]:
        if record.value is None:
            if Deletion.kind in self._message_types:
                return Deletion
            raise InvalidMessageError("the value is null", [FieldError(field="body", detail="must not be null")])
        if envelope.kind is None:
            return self._topic.accepts[0]
        message_type = self._message_types.get(envelope.kind)
        if message_type is None:
            detail = f"{envelope.kind!r} is not known here; {self._topic.name} accepts {', '.join(self._message_types)}"
            error = NewerVersionError if _is_newer(envelope.kind, self._message_types) else InvalidMessageError
            raise error(f"{KIND}: {detail}", [FieldError(field=KIND, detail=detail)])
        return message_type

    def context(self, record: Record, envelope: Envelope, deadline: float) -> Context:
        """Return the context of a record; `deadline` is in Unix seconds."""
        public = self._topic.public
        return Context(
            record=record,
            envelope=envelope,
            run=(None if public else envelope.run) or derive_run_id(*record.identity),
            step=(None if public else envelope.step) or ROOT_STEP,
            tenant=(None if public else envelope.tenant) or self._mesh.settings.tenant,
            deadline=deadline,
            attempt=(None if public else envelope.attempt) or 1,
            lane=self._topic.lane,
            rpc=self._mesh.rpc,
            producer=self._mesh.producer,
            redis=self._redis,
        )

    def run_and_step(self, record: Record) -> tuple[str, str]:
        """Return the run and step that a reply names, even if the headers are unreadable: the caller compares them."""
        run, step = (None, None) if self._topic.public else (record.header(RUN), record.header(STEP))
        return (run or derive_run_id(*record.identity))[:MAX_HEADER_BYTES], (step or ROOT_STEP)[:MAX_HEADER_BYTES]


def _is_newer(kind: str, known: Mapping[str, type[Message]]) -> bool:
    """Return whether a kind, `name/version`, is a later version of a known one."""
    name, _, version = kind.rpartition("/")
    number = read_integer(version)
    versions = [int(other.rpartition("/")[2]) for other in known if other.rpartition("/")[0] == name]
    return number is not None and bool(versions) and number > max(versions)
