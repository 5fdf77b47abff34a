"""A tier: one kind of worker, its handlers, and what a handler knows of the message it handles."""

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from poise.contracts.custom_topics import BUILT_IN, TopicOptions, own_topics
from poise.contracts.envelope import Envelope
from poise.contracts.fault import Fault
from poise.contracts.message import Message, ReplyT, Request
from poise.contracts.topics import REPLIES, Lane, Topic, topics_of
from poise.errors import SetupError
from poise.kafka.handling_slots import Parked, parked
from poise.kafka.record import Position, Record
from poise.kafka.record_size import size_of
from poise.redis.journal import KEPT_AFTER, Journal
from poise.rpc.stream_writer import StreamWriter
from poise.worker import custom_tiers
from poise.worker.executors import InProcesses, as_handler

if TYPE_CHECKING:
    from poise.worker.mesh import Mesh

OWN_HEADERS: Final = 1_024
"""Bytes of the headers that a reply, or a message of a run, has besides those of the request."""

Handler = Callable[[Any, "Context"], Awaitable[Message | None]]
"""Takes the request and its context; returns the reply, or None for messages that have none.

It may raise `RetryableError` or `TerminalError`; anything else is a bug.
"""

OnFault = Callable[[Any, "Context", Fault], Awaitable[None]]
"""Takes a request that ended in a fault, its context and the fault, before the caller is told; raises nothing."""

PlainHandler = Callable[[Any, "Context"], Message | None]
"""The same as a plain function: it runs in a thread, which cannot be interrupted, so at its deadline the caller is told
and the thread works on until it returns."""


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
    mesh: "Mesh"
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

    async def room(self, topic: Topic | None = None) -> int:
        """The bytes that the reply may have as JSON, or a message of this run to a topic; headers are counted."""
        name = topic.name if topic is not None else self.envelope.reply_to or REPLIES.name
        around = size_of(self.run.encode(), b"", self.envelope.headers()) + OWN_HEADERS
        return max(0, await self.mesh.producer.limits.limit(name) - around)

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
            return await self.mesh.call(
                request,
                run=self.run,
                step=step,
                tenant=self.tenant,
                lane=self.lane,
                deadline=deadline,
                min_epoch=min_epoch or self.envelope.min_epoch,
                stream=self.stream if stream else None,
                key=key,
            )

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
        return await self.mesh.publish(
            topic,
            message,
            key=key,
            partition=partition,
            envelope=Envelope(run=self.run, tenant=self.tenant, doc_version=doc_version),
        )

    def history(self, *workflow: str) -> Journal | None:
        """Where a workflow keeps how the steps of this message's run ended; None without a cache.

        A message that was sent again from a dead-letter topic has a history of its own.
        """
        if not self.mesh.cache.configured:
            return None
        identity = (self.tenant, self.run, self.step, *workflow, str(self.envelope.redrives or 0))
        return Journal(self.mesh.cache, *identity, ttl=self.remaining() + KEPT_AFTER)


class Tier:
    """One kind of worker: one of Poise's own by its name, else one of yours.

    The topics of Poise's own tiers are in the table. Yours has `poise.<name>.requests.<lane>` and `poise.<name>.dead`,
    which its first worker creates.

    Args:
        name: The tier's name; one of yours has lower-case letters, digits and hyphens.
        handlers: One handler by the type of message it takes. An async one runs in the event loop, a plain function in
            a thread, one from `in_processes` in processes.
        concurrency: Messages handled at once per topic; None = the process's setting.
        topics: What the topics of one of yours may have differently; None = the usual.
        on_fault: Told of each request that ended in a fault, whatever the reason: its handler raised it, it expired, or
            it was cancelled.

    Raises:
        SetupError: What is given contradicts itself, or the topics; the message says what and what to do.
    """

    def __init__(
        self,
        name: str,
        handlers: Mapping[type[Message], Handler | PlainHandler | InProcesses],
        *,
        concurrency: int | None = None,
        topics: TopicOptions | None = None,
        on_fault: OnFault | None = None,
    ) -> None:
        self.name = name
        self.on_fault = on_fault
        faults = list(custom_tiers.faults_of_handlers(handlers))
        if name not in BUILT_IN:
            faults = [*custom_tiers.faults_of_tier(name, handlers), *faults]
        elif topics is not None:
            faults.append("is Poise's own, whose topics are in contracts/topics.py")
        if faults:
            raise SetupError(f"tier {name}: {'; '.join(faults)}")
        self.handlers: dict[type[Message], Handler] = {kind: as_handler(given) for kind, given in handlers.items()}
        for kind, handler in handlers.items():
            if isinstance(handler, InProcesses):
                handler.pool(kind)  # refuses what no process can find
        self.concurrency = concurrency
        self.own_topics = () if name in BUILT_IN else own_topics(name, handlers, topics)
        """All topics of a tier of one's own; those of Poise's tiers are in the table."""
        candidates = self.own_topics or topics_of(name)
        self.topics = tuple(
            topic for topic in candidates if topic.tier == name and self.handlers.keys() & set(topic.accepts)
        )
        carried = {kind for topic in self.topics for kind in topic.accepts}
        if missing := [kind.__name__ for kind in self.handlers if kind not in carried]:
            raise SetupError(f"tier {name}: no topic of its carries {', '.join(missing)}: see contracts/topics.py")
        if unhandled := [kind.__name__ for kind in carried if kind not in self.handlers]:
            raise SetupError(f"tier {name}: no handler for {', '.join(unhandled)}, which its topics carry")
