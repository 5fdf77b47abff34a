"""A call context whose calls are answered from a script."""

import math
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from poise.contracts import Answer, Draw, Message, Request, RunRecord
from poise.contracts.message import ReplyT
from poise.contracts.topics import Lane, Topic
from poise.kafka.record import Position
from poise.rpc.client import CallOptions
from poise.rpc.stream_writer import StreamWriter
from poise.worker.context import RpcCaller

Reply = Message | Exception


@dataclass
class ScriptedRun:
    """Answers each type of request with its reply, raises its error, or calls its function of the request."""

    replies: Mapping[type[Request[Any]], Reply | Callable[[Any], Reply]]
    run: str = "5d1c8c1c-0e9a-5a52-8f5b-0f6d8e3a2b11"
    tenant: str = "acme"
    step: str = "ask"
    lane: Lane = "interactive"
    written: float = 0.0
    """When its request was written, unix seconds."""
    left: float = 100.0
    """Seconds until the deadline."""
    deadline: float = math.inf
    """Unix seconds; `left` is independent of it."""
    takes: float = 0.0
    """Seconds that each call takes."""
    refuses: Exception | None = None
    """The error that publishing raises."""
    min_epoch: str | None = None
    bytes_left: int = 1_000_000
    """Maximum number of bytes of the reply, and of a record."""
    stream_writer: StreamWriter | None = None
    """Streams the answer's text."""
    requests: list[Request[Any]] = field(default_factory=list)
    timeouts: dict[str, int] = field(default_factory=dict)
    """Seconds until the deadline of each call, by step."""
    published: list[tuple[Topic, Message | None, str | None]] = field(default_factory=list)

    def remaining(self) -> float:
        """Return the seconds until the deadline."""
        return self.left

    async def max_body_bytes(self, _topic: Topic | None = None) -> int:
        """Return the maximum size of a message's JSON in bytes."""
        return self.bytes_left

    def journal(self, *_workflow: str) -> None:
        """Return no journal, as without Redis."""
        return

    @property
    def rpc(self) -> RpcCaller:
        """Return this object."""
        return self

    async def call(self, request: Request[ReplyT], options: CallOptions) -> ReplyT:
        """Answer from the script."""
        assert options.step is not None
        assert options.deadline is not None
        self.requests.append(request)
        self.timeouts[options.step] = round(
            options.deadline - time.time()
        )  # time passes between the two clock readings
        self.left -= self.takes
        reply = self.replies[type(request)]
        if callable(reply) and not isinstance(reply, Message):
            reply = reply(request)
        if isinstance(reply, Exception):
            raise reply
        assert isinstance(reply, request.reply)
        return reply  # type: ignore[no-any-return]  # checked by the assertion, which mypy cannot follow

    async def publish(self, topic: Topic, message: Message | None, *, key: str | None) -> Position:
        """Record a published message."""
        if self.refuses is not None:
            raise self.refuses
        self.published.append((topic, message, key))
        return Position(topic.name, 0, len(self.published) - 1)


class AnsweredQuestion:
    """An answered question: the answer, its run record, and its call context."""

    def __init__(self, answer: Answer, run: ScriptedRun) -> None:
        self.answer = answer
        self.run = run
        (self.topic, record, self.key), *more = run.published
        assert not more
        assert isinstance(record, RunRecord)
        self.record = record

    @property
    def reason(self) -> str:
        """Return the reason why the answer is not from the first rung."""
        assert self.answer.reason is not None
        return self.answer.reason

    @property
    def draw(self) -> Draw:
        """Return how the variant was chosen."""
        assert self.record.draw is not None
        return self.record.draw


AskFunction = Callable[..., Awaitable[AnsweredQuestion]]
