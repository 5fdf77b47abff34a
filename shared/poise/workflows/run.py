"""Run: what a workflow does its steps with."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final, Literal, Protocol, TypeVar, overload
from uuid import UUID

from pydantic_core import from_json, to_json

from poise.contracts.message import Message, ReplyT, Request
from poise.contracts.record import StepRecord, longest
from poise.contracts.topics import Lane, Topic
from poise.errors import DeadlineExceededError, PoiseError, RunCancelledError
from poise.kafka.handling_slots import parked
from poise.kafka.record import Position
from poise.redis.journal import Journal
from poise.rpc.encoding import encode
from poise.rpc.stream_writer import StreamWriter
from poise.telemetry import semconv, span
from poise.workflows import fan_out
from poise.workflows.annotations import RunAnnotations
from poise.workflows.inline_steps import result_of, returned_by
from poise.workflows.start_time import start_time
from poise.workflows.step_executor import StepExecutor, StepRequest
from poise.workflows.step_ids import Names, digest, json_of
from poise.workflows.timeout import Timeout

T = TypeVar("T")

Guard = Callable[[float], AbstractContextManager[None]]
"""What a call is made inside, given the seconds that it has."""

ROOT: Final = "ask"
"""The step that is the run itself; the steps of a run inside it are named after theirs."""
CANCELLED: Final = f"urn:poise:{RunCancelledError.name}"


class CallContext(Protocol):
    """What a run needs of the mesh: a message's context."""

    @property
    def run(self) -> str:
        """The run's id."""

    @property
    def step(self) -> str:
        """The step that the workflow is, inside its run."""

    @property
    def tenant(self) -> str:
        """Whose it is."""

    @property
    def lane(self) -> Lane:
        """Its traffic class."""

    @property
    def stream(self) -> StreamWriter | None:
        """Where the answer's words go as they come; None = nobody asked for that."""

    @property
    def written(self) -> float:
        """When its request was written, unix seconds."""

    @property
    def min_epoch(self) -> str | None:
        """The epoch that retrieval must have come to; None = any."""

    def remaining(self) -> float:
        """Seconds until the deadline."""

    async def call(
        self,
        request: Request[ReplyT],
        *,
        step: str,
        timeout: float | None = None,  # noqa: ASYNC109
        stream: bool = False,
    ) -> ReplyT:
        """Call another tier inside this run."""

    async def publish(self, topic: Topic, message: Message | None, *, key: str | None) -> Position:
        """Publish a message of this run."""


class Run:
    """One execution of a workflow: its way to the mesh, and to whatever is not the same twice.

    Every step is kept in the run's history before the workflow goes on. When the run is begun again, its finished
    steps are found there, in the order in which they ended. See docs/WORKFLOWS.md for what a workflow must heed.

    Args:
        door: The way to the mesh.
        history: Where the steps' outcomes are kept; None = nowhere, each time all is done.
        name: The workflow's, for messages.
    """

    def __init__(self, door: CallContext, history: Journal | None = None, name: str = "workflow") -> None:
        self.id = door.run
        self.tenant = door.tenant
        self.lane = door.lane
        self.written = door.written
        """When its request was written, unix seconds."""
        self.min_epoch = door.min_epoch
        """The epoch that passages must have come to; None = any. Every call of the run carries it."""
        self.words = door.stream
        """Where the answer's words go as they come; None = nobody asked for that."""
        self.random = random.Random(door.run)  # noqa: S311 - the same each time the run is begun, which is the point
        """Random numbers, the same each time."""
        self.steps: list[StepRecord] = []
        """The steps that ended, and how."""
        self.notes = RunAnnotations()
        self.started = start_time(door.written, time.time())
        """When it was asked for, unix seconds."""
        self._door = door
        self._kept_back = 0.0
        self._within = "" if door.step == ROOT else f"{door.step}/"
        self._ids = Names()
        self._taken = StepExecutor(f"run {door.run} ({name})", history)

    async def execute(self, work: Coroutine[Any, Any, T]) -> T:
        """Do the run's work, beginning with what its history has.

        Raises:
            DivergedError: It does something else than its history says.
        """
        return await self._taken.execute(work)

    # -- time -----------------------------------------------------------------------------------------------------

    def remaining(self) -> float:
        """Seconds until the deadline, never negative."""
        return self._door.remaining()

    def keep_back(self, share: float) -> None:
        """Keep a share of the time that is left now from the steps: in it a lower rung answers."""
        self._kept_back = self.remaining() * share

    def for_steps(self) -> float:
        """Seconds that a step may still use."""
        return max(0.0, self.remaining() - self._kept_back)

    async def now(self) -> float:
        """The time, unix seconds; the same each time the run is begun."""

        async def read() -> float:
            return time.time()

        asked: StepRequest[float] = self._asked("now", to_json, from_json)
        return (await self._taken.take(asked, read))[0]

    async def sleep(self, seconds: float) -> None:
        """Wait; begun again, for the rest alone: when it ends is kept when it begins. It holds no handling slot."""
        asked: StepRequest[float] = self._asked("wake", to_json, from_json, to_json(seconds))

        async def wake() -> float:
            return time.time() + seconds

        until, _ = await self._taken.take(asked, wake)

        async def rest() -> None:  # its slot is taken again inside: what the workflow sees next comes in its turn
            async with parked():
                await asyncio.sleep(max(0.0, until - time.time()))

        await self._elapse("sleep", seconds, rest)

    def timeout(self, seconds: float) -> Timeout:
        """`async with run.timeout(2):` as `asyncio.timeout`; where it fired, it fires at once the next time."""
        return Timeout(lambda: self._elapse("timeout", seconds, lambda: asyncio.sleep(seconds), kept=False))

    def _elapse(
        self, what: str, seconds: float, wait: Callable[[], Awaitable[None]], *, kept: bool = True
    ) -> Coroutine[Any, Any, object]:
        # Named now, not when a task of its own begins: one that is cancelled before would leave its name to the next.
        asked: StepRequest[None] = self._asked(what, lambda _: b"", lambda _: None, to_json(seconds), kept=kept)
        return self._taken.take(asked, wait)

    # -- chance ---------------------------------------------------------------------------------------------------

    def uuid(self) -> UUID:
        """A UUID, the same each time the run is begun."""
        return UUID(int=self.random.getrandbits(128), version=4)

    # -- steps ----------------------------------------------------------------------------------------------------

    async def call(
        self,
        request: Request[ReplyT],
        *,
        id: str | None = None,  # noqa: A002 - it is one
        timeout: float | None = None,  # noqa: ASYNC109 - it is sent along, and every hop honours it
        guard: Guard | None = None,
    ) -> ReplyT:
        """Call a tier.

        Args:
            request: What is asked; its type says which tier answers.
            id: The step's id, when it is to have one of its own; else it is made of what is asked.
            timeout: Seconds; what the steps may still use always holds too.
            guard: Entered, with the seconds that it has, around the call itself: it may refuse it by a PoiseError, and
                sees how it ends. A call that is found in the run's history is not made.

        Raises:
            EncodingError: The request has a field that JSON has no form for.
            PoiseError: A fault came back, or nothing came in time.
        """
        return await self._call(request, id, timeout, stream=False, guard=guard)

    async def stream(
        self,
        request: Request[ReplyT],
        *,
        id: str | None = None,  # noqa: A002
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> ReplyT:
        """Call a tier whose words are the answer's: whoever asked for them has them as they come. See `call`."""
        return await self._call(request, id, timeout, stream=True)

    async def _call(
        self,
        request: Request[ReplyT],
        id: str | None,  # noqa: A002
        timeout: float | None,  # noqa: ASYNC109
        *,
        stream: bool,
        guard: Guard | None = None,
    ) -> ReplyT:
        name, asks = request.kind.partition("/")[0], encode(request)
        parse: Callable[[bytes], ReplyT] = request.reply.parse
        asked = self._asked(f"call {request.kind}", encode, parse, asks, id=id, name=name)
        made = False

        async def work() -> ReplyT:
            nonlocal made
            made = True
            left = self.for_steps() if timeout is None else min(timeout, self.for_steps())
            if left <= 0:
                raise DeadlineExceededError(f"no time was left for step {asked.step}")
            with nullcontext() if guard is None else guard(left):
                return await self._door.call(request, step=asked.step, timeout=left, stream=stream)

        reply = await self._noted(id or name, asked, work)
        if stream and not made and self.words is not None:  # its words went to whoever read the last execution
            self.words.begin()
            await self.words.replied(reply, None)
        return reply

    @overload
    async def map(
        self, requests: Sequence[Request[ReplyT]], *, width: int = ..., partial: Literal[False] = ...
    ) -> list[ReplyT]: ...
    @overload
    async def map(
        self, requests: Sequence[Request[ReplyT]], *, width: int = ..., partial: Literal[True]
    ) -> list[ReplyT | PoiseError]: ...
    async def map(
        self, requests: Sequence[Request[ReplyT]], *, width: int = 8, partial: bool = False
    ) -> list[ReplyT] | list[ReplyT | PoiseError]:
        """Call with many requests, a bounded number at a time.

        Args:
            requests: What is asked.
            width: Calls under way at once.
            partial: Whether what failed, or was not done in the time for steps, stands in the list as its error.

        Returns:
            The replies, in the order of the requests.

        Raises:
            PoiseError: The first one that failed, unless `partial`; the others are given up.
        """
        if partial:
            return await fan_out.every([fan_out.tolerant(self.call, request) for request in requests], width)
        return await fan_out.every([fan_out.strict(self.call, request) for request in requests], width)

    @overload
    async def step(
        self,
        name: str,
        function: Callable[..., Awaitable[T]],
        *args: object,
        returns: Any = ...,
        id: str | None = ...,
        recorded: bool = ...,
    ) -> T: ...
    @overload
    async def step(
        self,
        name: str,
        function: Callable[..., T],
        *args: object,
        returns: Any = ...,
        id: str | None = ...,
        recorded: bool = ...,
    ) -> T: ...
    async def step(
        self,
        name: str,
        function: Callable[..., Any],
        *args: object,
        returns: Any = None,
        id: str | None = None,  # noqa: A002
        recorded: bool = True,
    ) -> Any:
        """Do something here, once: whatever is not a call, and costs something or is not the same twice.

        Args:
            name: The step's name.
            function: An async one runs in the event loop, a plain one in a thread.
            args: What it is given. What has no JSON among them counts by its type alone when it is asked whether the
                run does the same as last time.
            returns: The type of the result: a message, or what pydantic can write as JSON; None = as the function
                says by its annotation.
            id: The step's id, when it is to have one of its own.
            recorded: Whether it is among the `steps`, timings and spans of the run: not what takes no time.

        Raises:
            PoiseError: The function raised it. What is retryable is done again when the run is retried, and so is
                what raised anything else.
        """
        adapter = returned_by(function, returns)
        same: Callable[[bytes], bytes] = bytes
        asked = self._asked(f"step {name}", same, same, json_of(args), id=id, name=name)

        async def work() -> bytes:
            if not recorded:
                return await result_of(name, function, args, adapter)
            with span(semconv.step(name)):
                return await result_of(name, function, args, adapter)

        raw = await self._noted(id or name, asked, work) if recorded else (await self._taken.take(asked, work))[0]
        return adapter.validate_json(raw)

    async def publish(
        self,
        topic: Topic,
        message: Message | None,
        *,
        key: str | None,
        id: str | None = None,  # noqa: A002
    ) -> Position:
        """Publish a message of this run, once, and wait until the broker has it; None is a tombstone.

        Topic and key say which one it is, not what is in it: that may have the time in it.

        Raises:
            UnavailableError: The broker did not take it.
        """
        what = f"publish {topic.name}"
        asked: StepRequest[Position] = self._asked(what, to_json, _position, to_json(key), id=id, name="publish")
        return (await self._taken.take(asked, lambda: self._door.publish(topic, message, key=key)))[0]

    # -- what is common to them -----------------------------------------------------------------------------------

    def _asked(
        self,
        what: str,
        encode: Callable[[T], bytes],
        decode: Callable[[bytes], T],
        asks: bytes = b"null",
        *,
        id: str | None = None,  # noqa: A002
        name: str | None = None,
        kept: bool = True,
    ) -> StepRequest[T]:
        hashed = digest(what, asks)
        step = self._within + self._ids.of(id or f"{name or what}-{hashed}")
        return StepRequest(step, what, hashed, encode, decode, kept)

    async def _noted(self, name: str, asked: StepRequest[T], work: Callable[[], Awaitable[T]]) -> T:
        began = time.perf_counter()
        fault: str | None = CANCELLED
        ms: float | None = None
        try:
            result, ms = await self._taken.take(asked, work)
        except PoiseError as error:
            fault = error.fault().type
            raise
        else:
            fault = None
            return result
        finally:
            took = round((time.perf_counter() - began) * 1_000 if ms is None else ms, 1)
            self.steps.append(StepRecord(step=name, ms=took, fault=fault))

    def timings(self) -> dict[str, float]:
        """Milliseconds by step, of those with the same name of the longest; and `total` since it was asked for."""
        total = round((time.time() - self.started) * 1_000, 1)
        return {**longest(self.steps), "total": total}


def _position(body: bytes) -> Position:
    return Position(**from_json(body))
