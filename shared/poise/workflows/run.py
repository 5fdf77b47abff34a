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
from poise.contracts.record import StepRecord, longest_by_step
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
from poise.workflows.inline_steps import result_adapter, run_function
from poise.workflows.start_time import start_time
from poise.workflows.step_executor import StepExecutor, StepRequest
from poise.workflows.step_ids import StepNames, arguments_json, request_digest
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
        context: The way to the mesh.
        history: Where the steps' outcomes are kept; None = nowhere, each time all is done.
        name: The workflow's, for messages.
    """

    def __init__(self, context: CallContext, history: Journal | None = None, name: str = "workflow") -> None:
        self.id = context.run
        self.tenant = context.tenant
        self.lane = context.lane
        self.written = context.written
        """When its request was written, unix seconds."""
        self.min_epoch = context.min_epoch
        """The epoch that passages must have come to; None = any. Every call of the run carries it."""
        self.stream_writer = context.stream
        """Where the answer's words go as they come; None = nobody asked for that."""
        self.random = random.Random(context.run)  # noqa: S311 - the same each time the run is begun, which is the point
        """Random numbers, the same each time."""
        self.steps: list[StepRecord] = []
        """The steps that ended, and how."""
        self.annotations = RunAnnotations()
        self.started = start_time(context.written, time.time())
        """When it was asked for, unix seconds."""
        self._context = context
        self._reserved = 0.0
        self._within = "" if context.step == ROOT else f"{context.step}/"
        self._ids = StepNames()
        self._executor = StepExecutor(f"run {context.run} ({name})", history)

    async def execute(self, work: Coroutine[Any, Any, T]) -> T:
        """Do the run's work, beginning with what its history has.

        Raises:
            NonDeterminismError: It does something else than its history says.
        """
        return await self._executor.execute(work)

    # -- time -----------------------------------------------------------------------------------------------------

    def remaining(self) -> float:
        """Seconds until the deadline, never negative."""
        return self._context.remaining()

    def reserve(self, share: float) -> None:
        """Keep a share of the time that is left now from the steps: in it a lower rung answers."""
        self._reserved = self.remaining() * share

    def step_budget(self) -> float:
        """Seconds that a step may still use."""
        return max(0.0, self.remaining() - self._reserved)

    async def now(self) -> float:
        """The time, unix seconds; the same each time the run is begun."""

        async def read() -> float:
            return time.time()

        asked: StepRequest[float] = self._step_request("now", to_json, from_json)
        return (await self._executor.run_step(asked, read))[0]

    async def sleep(self, seconds: float) -> None:
        """Wait; begun again, for the rest alone: when it ends is kept when it begins. It holds no handling slot."""
        asked: StepRequest[float] = self._step_request("wake", to_json, from_json, to_json(seconds))

        async def wake() -> float:
            return time.time() + seconds

        until, _ = await self._executor.run_step(asked, wake)

        async def rest() -> None:  # its slot is taken again inside: what the workflow sees next comes in its turn
            async with parked():
                await asyncio.sleep(max(0.0, until - time.time()))

        await self._timer_step("sleep", seconds, rest)

    def timeout(self, seconds: float) -> Timeout:
        """`async with run.timeout(2):` as `asyncio.timeout`; where it fired, it fires at once the next time."""
        return Timeout(
            lambda: self._timer_step("timeout", seconds, lambda: asyncio.sleep(seconds), journal_abandonment=False)
        )

    def _timer_step(
        self, what: str, seconds: float, wait: Callable[[], Awaitable[None]], *, journal_abandonment: bool = True
    ) -> Coroutine[Any, Any, object]:
        # Named now, not when a task of its own begins: one that is cancelled before would leave its name to the next.
        asked: StepRequest[None] = self._step_request(
            what, lambda _: b"", lambda _: None, to_json(seconds), journal_abandonment=journal_abandonment
        )
        return self._executor.run_step(asked, wait)

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
        asked = self._step_request(f"call {request.kind}", encode, parse, asks, id=id, name=name)
        made = False

        async def work() -> ReplyT:
            nonlocal made
            made = True
            left = self.step_budget() if timeout is None else min(timeout, self.step_budget())
            if left <= 0:
                raise DeadlineExceededError(f"no time was left for step {asked.step}")
            with nullcontext() if guard is None else guard(left):
                return await self._context.call(request, step=asked.step, timeout=left, stream=stream)

        reply = await self._execute_recorded(id or name, asked, work)
        if stream and not made and self.stream_writer is not None:  # its words went to whoever read the last execution
            self.stream_writer.start_attempt()
            await self.stream_writer.on_reply(reply, None)
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
            return await fan_out.run_bounded(
                [fan_out.returning_errors(self.call, request) for request in requests], width
            )
        return await fan_out.run_bounded([fan_out.raising(self.call, request) for request in requests], width)

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
        adapter = result_adapter(function, returns)
        same: Callable[[bytes], bytes] = bytes
        asked = self._step_request(f"step {name}", same, same, arguments_json(args), id=id, name=name)

        async def work() -> bytes:
            if not recorded:
                return await run_function(name, function, args, adapter)
            with span(semconv.step_span(name)):
                return await run_function(name, function, args, adapter)

        raw = (
            await self._execute_recorded(id or name, asked, work)
            if recorded
            else (await self._executor.run_step(asked, work))[0]
        )
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
        asked: StepRequest[Position] = self._step_request(what, to_json, _position, to_json(key), id=id, name="publish")
        return (await self._executor.run_step(asked, lambda: self._context.publish(topic, message, key=key)))[0]

    # -- what is common to them -----------------------------------------------------------------------------------

    def _step_request(
        self,
        what: str,
        encode: Callable[[T], bytes],
        decode: Callable[[bytes], T],
        asks: bytes = b"null",
        *,
        id: str | None = None,  # noqa: A002
        name: str | None = None,
        journal_abandonment: bool = True,
    ) -> StepRequest[T]:
        hashed = request_digest(what, asks)
        step = self._within + self._ids.unique(id or f"{name or what}-{hashed}")
        return StepRequest(step, what, hashed, encode, decode, journal_abandonment)

    async def _execute_recorded(self, name: str, asked: StepRequest[T], work: Callable[[], Awaitable[T]]) -> T:
        began = time.perf_counter()
        fault: str | None = CANCELLED
        ms: float | None = None
        try:
            result, ms = await self._executor.run_step(asked, work)
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
        return {**longest_by_step(self.steps), "total": total}


def _position(body: bytes) -> Position:
    return Position(**from_json(body))
