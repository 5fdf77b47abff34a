"""The context of a message: its identity, its deadline, and the calls that its handler can make."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from poise.contracts.envelope import Envelope
from poise.contracts.fault import Fault
from poise.contracts.message import Message, ReplyT, Request
from poise.contracts.topics import REPLIES, Lane, Topic
from poise.kafka.handling_slots import Parked, parked
from poise.kafka.record import Position, Record
from poise.kafka.record_size import size_of
from poise.redis.client import RedisClient
from poise.redis.journal import RETENTION_AFTER_DEADLINE, Journal
from poise.rpc.client import CallOptions
from poise.rpc.stream_writer import StreamWriter

HEADER_ALLOWANCE: Final = 1_024
"""Bytes of the headers that a reply, or a message of a run, has in addition to those of the request."""

Handler = Callable[[Any, "Context"], Awaitable[Message | None]]
"""Takes the request and its context; returns the reply, or None for messages that have none.

It may raise `RetryableError` or `TerminalError`, and need not catch the `CallError` or `TransportError` of a call that
it makes. Any other exception is a bug.
"""

OnFault = Callable[[Any, "Context", Fault], Awaitable[None]]
"""Takes a request that ended in a fault, its context and the fault, before the reply is sent; must not raise."""

SyncHandler = Callable[[Any, "Context"], Message | None]
"""The same as a plain function. It runs in a thread, which cannot be interrupted: at the deadline the caller gets a
fault, and the thread runs on until the function returns."""


class RpcCaller(Protocol):
    """Calls tiers; see `RpcClient`."""

    def call(self, request: Request[ReplyT], options: CallOptions) -> Awaitable[ReplyT]:
        """Call a tier and wait for its reply."""


class MessagePublisher(Protocol):
    """Publishes messages; see `MessageProducer`."""

    def publish(
        self,
        topic: Topic,
        message: Message | None,
        *,
        key: str | None,
        partition: int | None = None,
        envelope: Envelope | None = None,
    ) -> Awaitable[Position]:
        """Publish a message and wait for the broker's acknowledgement."""

    def max_record_size(self, topic: str) -> Awaitable[int]:
        """Return the bytes that a record of a topic may have."""


@dataclass(frozen=True, slots=True)
class Context:
    """The message that a handler handles, and its access to the rest of the mesh."""

    record: Record
    envelope: Envelope
    run: str
    step: str
    tenant: str
    deadline: float
    """Unix seconds after which no caller waits for the answer."""
    attempt: int
    """From 1."""
    lane: Lane
    rpc: RpcCaller
    """The client behind `call`. A call made directly on it holds the handling slot while it waits."""
    producer: MessagePublisher
    """The producer behind `publish`."""
    redis: RedisClient
    """Stores the journals of runs, if it is configured."""
    stream_writer: StreamWriter | None = None
    """Sends the text of the answer while it is generated; None = no stream was requested. The text is provisional
    until the reply."""

    @property
    def written(self) -> float:
        """When the message was written, Unix seconds."""
        return self.record.timestamp

    @property
    def min_epoch(self) -> str | None:
        """The epoch that retrieval must have reached; None = any."""
        return self.envelope.min_epoch

    def remaining(self) -> float:
        """Return the seconds until the deadline, never negative."""
        return max(0.0, self.deadline - time.time())

    async def max_body_bytes(self, topic: Topic | None = None) -> int:
        """Return the maximum bytes of the reply's body, or of a message of this run to `topic`, without headers."""
        name = topic.name if topic is not None else self.envelope.reply_to or REPLIES.name
        overhead = size_of(self.run.encode(), b"", self.envelope.headers()) + HEADER_ALLOWANCE
        return max(0, await self.producer.max_record_size(name) - overhead)

    async def call(
        self,
        request: Request[ReplyT],
        *,
        step: str,
        timeout: float | None = None,  # noqa: ASYNC109 - it is sent along, and every hop honors it
        min_epoch: str | None = None,
        stream: bool = False,
        key: str | None = None,
    ) -> ReplyT:
        """Call another tier inside this run; while it waits for the reply, the message holds no handling slot.

        Args:
            request: Its type determines the tier.
            step: The call's stable name inside the run.
            timeout: Seconds; the run's deadline always applies too.
            min_epoch: The epoch that retrieval must have reached; the run's by default.
            stream: Stream the text of the reply to this handler's own caller, if it requested a stream. This revokes
                text that was written to `context.stream_writer` before.
            key: Orders the request, where the tier's topics are ordered.

        Raises:
            FaultError: The tier answered with a fault.
            DeadlineExceededError: No reply came before the deadline.
        """
        options = CallOptions(
            run=self.run,
            step=step,
            tenant=self.tenant,
            lane=self.lane,
            deadline=self.deadline if timeout is None else min(self.deadline, time.time() + timeout),
            min_epoch=min_epoch or self.envelope.min_epoch,
            key=key,
            stream=self.stream_writer if stream else None,
        )
        async with parked():
            return await self.rpc.call(request, options)

    @staticmethod
    def parked() -> Parked:
        """Release the handling slot inside the context, while the handler waits for something outside this worker.

        The message remains unfinished, and blocks later messages of its key; its deadline and cancels still apply.
        """
        return parked()

    async def publish(
        self,
        topic: Topic,
        message: Message | None,
        *,
        key: str | None,
        partition: int | None = None,
        doc_version: int | None = None,
    ) -> Position:
        """Publish a message of this run and wait for the broker's acknowledgement; None is a tombstone.

        Raises:
            UnavailableError: The broker did not acknowledge it.
        """
        return await self.producer.publish(
            topic,
            message,
            key=key,
            partition=partition,
            envelope=Envelope(run=self.run, tenant=self.tenant, doc_version=doc_version),
        )

    def journal(self, *workflow: str) -> Journal | None:
        """Return the journal of a workflow in this message's run; None if Redis is not configured.

        A redriven message has a separate journal.
        """
        if not self.redis.configured:
            return None
        identity = (self.tenant, self.run, self.step, *workflow, str(self.envelope.redrives or 0))
        return Journal(self.redis, *identity, ttl=self.remaining() + RETENTION_AFTER_DEADLINE)
