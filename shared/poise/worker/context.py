"""The context of a message: what a handler knows of it, and its way to the other tiers."""

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
from poise.rpc.calls import StreamSink
from poise.rpc.client import CallOptions
from poise.rpc.stream_writer import StreamWriter

HEADER_ALLOWANCE: Final = 1_024
"""Bytes of the headers that a reply, or a message of a run, has besides those of the request."""

Handler = Callable[[Any, "Context"], Awaitable[Message | None]]
"""Takes the request and its context; returns the reply, or None for messages that have none.

It may raise `RetryableError` or `TerminalError`; anything else is a bug.
"""

OnFault = Callable[[Any, "Context", Fault], Awaitable[None]]
"""Takes a request that ended in a fault, its context and the fault, before the caller is told; raises nothing."""

SyncHandler = Callable[[Any, "Context"], Message | None]
"""The same as a plain function: it runs in a thread, which cannot be interrupted, so at its deadline the caller is told
and the thread works on until it returns."""


class RpcCaller(Protocol):
    """Calls tiers; see `RpcClient`."""

    def call(
        self, request: Request[ReplyT], options: CallOptions, *, stream: StreamSink | None = None
    ) -> Awaitable[ReplyT]:
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
    """What a handler knows of the message it handles, and its way to the rest of the mesh."""

    record: Record
    envelope: Envelope
    run: str
    step: str
    tenant: str
    deadline: float
    """Unix seconds after which nobody wants the answer."""
    attempt: int
    """From 1."""
    lane: Lane
    rpc: RpcCaller
    """Calls other tiers."""
    producer: MessagePublisher
    """Publishes messages."""
    redis: RedisClient
    """Has the journals of runs, where it is configured."""
    stream: StreamWriter | None = None
    """Where the answer's words go as they come; None = nobody asked for that. What is written is provisional: the
    reply alone counts."""

    @property
    def written(self) -> float:
        """When the message was written, unix seconds."""
        return self.record.timestamp

    @property
    def min_epoch(self) -> str | None:
        """The epoch that retrieval must have come to; None = any."""
        return self.envelope.min_epoch

    def remaining(self) -> float:
        """Seconds until the deadline, never negative."""
        return max(0.0, self.deadline - time.time())

    async def max_body_bytes(self, topic: Topic | None = None) -> int:
        """The bytes that the reply may have as JSON, or a message of this run to a topic; headers are counted."""
        name = topic.name if topic is not None else self.envelope.reply_to or REPLIES.name
        around = size_of(self.run.encode(), b"", self.envelope.headers()) + HEADER_ALLOWANCE
        return max(0, await self.producer.max_record_size(name) - around)

    async def call(
        self,
        request: Request[ReplyT],
        *,
        step: str,
        timeout: float | None = None,  # noqa: ASYNC109 - it is sent along, and every hop honours it
        min_epoch: str | None = None,
        stream: bool = False,
        key: str | None = None,
    ) -> ReplyT:
        """Call another tier inside this run; while it waits for the reply, the message holds no handling slot.

        Args:
            request: What is asked; its type says which tier answers.
            step: The call's stable name inside the run.
            timeout: Seconds; the run's deadline always holds too.
            min_epoch: The epoch that retrieval must have come to; the run's own by default.
            stream: Its words are those of this handler's own answer: they go straight to whoever asked for them, if
                anybody did. What was written to `context.stream` before is superseded.
            key: What orders it, where that tier's topics are ordered.

        Raises:
            FaultError: The tier answered with a fault.
            DeadlineExceededError: Nothing came in time.
        """
        deadline = self.deadline if timeout is None else min(self.deadline, time.time() + timeout)
        async with parked():
            options = CallOptions(
                run=self.run,
                step=step,
                tenant=self.tenant,
                lane=self.lane,
                deadline=deadline,
                min_epoch=min_epoch or self.envelope.min_epoch,
                key=key,
            )
            return await self.rpc.call(request, options, stream=self.stream if stream else None)

    @staticmethod
    def parked() -> Parked:
        """Hold no handling slot inside, where the handler waits for something that needs nothing of this worker.

        The message remains unfinished, and holds up those of its key; deadline and cancelling hold as ever.
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
        """Publish a message of this run and wait until the broker has it; None is a tombstone.

        Raises:
            UnavailableError: The broker did not take it.
        """
        return await self.producer.publish(
            topic,
            message,
            key=key,
            partition=partition,
            envelope=Envelope(run=self.run, tenant=self.tenant, doc_version=doc_version),
        )

    def journal(self, *workflow: str) -> Journal | None:
        """Where a workflow keeps how the steps of this message's run ended; None without a cache.

        A message that was sent again from a dead-letter topic has a history of its own.
        """
        if not self.redis.configured:
            return None
        identity = (self.tenant, self.run, self.step, *workflow, str(self.envelope.redrives or 0))
        return Journal(self.redis, *identity, ttl=self.remaining() + RETENTION_AFTER_DEADLINE)
