"""The RPC client of one process: call a tier and wait for its reply, or read the reply as a stream."""

import asyncio
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from typing import Final

from poise.contracts.cancel import Cancel
from poise.contracts.custom_topics import request_topic
from poise.contracts.envelope import Envelope
from poise.contracts.message import ReplyT, Request
from poise.contracts.stream import Delta, Reset
from poise.contracts.topics import BATCH, CANCEL, CATALOGUE, Lane, Topic
from poise.errors import UnavailableError
from poise.kafka.admin import KafkaAdmin
from poise.kafka.record import Position
from poise.rpc.calls import Calls, OutgoingCall, StreamSink
from poise.rpc.message_producer import MessageProducer
from poise.rpc.stream_reader import StreamReader


@dataclass(frozen=True, slots=True)
class CallOptions:
    """Everything about a call besides its request."""

    run: str | None = None
    """The run that the call belongs to."""
    step: str | None = None
    """Its stable name inside the run."""
    tenant: str | None = None
    """None = the tenant of this process."""
    lane: Lane = "interactive"
    deadline: float | None = None
    """Unix seconds; None = the default of the topic's lane, from now."""
    key: str | None = None
    """Orders the request, where the topic is ordered; None = run and step spread it, or chance without a run."""
    min_epoch: str | None = None
    """The epoch that retrieval must have reached."""
    topic: Topic | None = None
    """None = the topic of the request's type."""
    stream: StreamSink | None = None
    """Receives the text of the reply as it is generated; None = only the reply is wanted."""


NO_OPTIONS: Final = CallOptions()


class RpcClient:
    """Calls tiers; usable once `connected`.

    Args:
        admin: Knows which topics exist.
        producer: Publishes cancels.
        tenant: The tenant of calls that name none.
    """

    def __init__(self, admin: KafkaAdmin, producer: MessageProducer, tenant: str) -> None:
        self._admin = admin
        self._producer = producer
        self._tenant = tenant
        self._calls: Calls | None = None

    @property
    def connected(self) -> bool:
        """Whether replies can arrive."""
        return self._calls is not None

    def connect(self, calls: Calls) -> None:
        """Use an open reader of replies from now on."""
        self._calls = calls

    async def call(self, request: Request[ReplyT], options: CallOptions = NO_OPTIONS) -> ReplyT:
        """Call a tier and wait for its reply.

        Args:
            request: Its type says which tier answers.
            options: Everything else about the call.

        Raises:
            FaultError: The tier answered with a fault.
            RunCancelledError: The run, or this step of it, was cancelled.
            DeadlineExceededError: No reply came before the deadline.
            NotAcknowledgedError: The broker had not acknowledged the request by then.
            UnavailableError: The broker rejected the request, or the topics of a custom tier do not exist yet.
            EncodingError: The request has a field, or a header, that cannot be written.
            LookupError: The request's class does not say which tier answers it.
        """
        if self._calls is None:
            raise UnavailableError("the client is not connected: use it inside `async with`")
        topic = options.topic or await self._topic_of(type(request), options.lane)
        key = options.key
        envelope = Envelope(
            run=options.run, step=options.step, tenant=options.tenant or self._tenant, min_epoch=options.min_epoch
        )
        if topic.public:
            envelope = Envelope(min_epoch=options.min_epoch)
        elif key is None and options.run is not None:
            key = f"{options.run}/{options.step}"
        deadline = options.deadline if options.deadline is not None else time.time() + topic.deadlines.default
        return await self._calls.call(request, OutgoingCall(topic, key, envelope, deadline, options.stream))

    async def stream(
        self, request: Request[ReplyT], options: CallOptions = NO_OPTIONS
    ) -> AsyncGenerator[Delta | Reset | ReplyT]:
        """Call a tier and yield its reply's text as it is generated; the last item is the reply itself.

        Text since the last `Reset` is provisional until the reply arrives, whose text it then is, except for white
        space around it. Closing the generator abandons the call. A slow reader gets larger deltas and loses none.

        Arguments and errors are those of `call`; an error may come after text. The generator takes the place of
        `options.stream`.
        """
        reader = StreamReader()
        calling = asyncio.create_task(self.call(request, replace(options, stream=reader)))
        calling.add_done_callback(lambda _: reader.close())
        try:
            async for event in reader:
                yield event
            yield await calling
        finally:
            calling.cancel()  # a call that is not over is abandoned: its reader has gone
            await asyncio.gather(calling, return_exceptions=True)

    async def cancel(self, run: str, *, step: str | None = None, tenant: str | None = None) -> None:
        """Have every worker stop work on a run, or on one step of it, and drop what is queued for it.

        Whether the run exists is not checked; a run that has ended is not affected.

        Args:
            run: The run's id.
            step: The step's name; None = the whole run.
            tenant: None = the tenant of this process.

        Raises:
            UnavailableError: The broker did not acknowledge the cancel.
        """
        deadline = round((time.time() + BATCH.longest) * 1_000)
        await self.publish_cancel(Cancel(run=run, step=step, tenant=tenant or self._tenant, deadline=deadline))

    async def publish_cancel(self, cancel: Cancel) -> Position:
        """Publish a cancel and wait for the broker's acknowledgement."""
        return await self._producer.publish(CANCEL, cancel, key=cancel.run)

    async def _topic_of(self, request_type: type[Request[ReplyT]], lane: Lane) -> Topic:
        topic = request_topic(request_type, lane)
        # Kafka's client blocks for long on a topic that does not exist.
        if topic.name not in CATALOGUE and await self._admin.partitions(topic.name) is None:
            raise UnavailableError(
                f"topic {topic.name} does not exist: start a worker of the tier {topic.tier}, which creates it"
            )
        return topic
