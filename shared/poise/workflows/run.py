"""Run: the API through which a workflow runs its steps."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, Literal, TypeVar, overload
from uuid import UUID

from pydantic_core import from_json, to_json

from poise.contracts.message import Message, ReplyT, Request
from poise.contracts.record import StepRecord, longest_by_step
from poise.contracts.run_id import ROOT_STEP
from poise.contracts.topics import Topic
from poise.errors import DeadlineExceededError, PoiseError
from poise.kafka.handling_slots import parked
from poise.kafka.record import Position
from poise.redis.journal import Journal
from poise.rpc.calls import CANCELLED_TYPE
from poise.rpc.client import CallOptions
from poise.rpc.encoding import encode
from poise.telemetry import semconv, span
from poise.workflows import fan_out
from poise.workflows.annotations import RunAnnotations
from poise.workflows.call_context import CallContext
from poise.workflows.inline_steps import result_adapter, run_function
from poise.workflows.start_time import start_time
from poise.workflows.step_executor import StepExecutor, StepRequest
from poise.workflows.step_ids import StepNames, arguments_json, request_digest
from poise.workflows.timeout import Timeout

T = TypeVar("T")

Guard = Callable[[float], AbstractContextManager[None]]
"""A context manager factory around a call; it receives the seconds that the call has."""


class Run:
    """One execution of a workflow: its calls, steps, time and random numbers.

    Every step is journaled before the workflow continues. A restarted run replays the finished steps in the order in
    which they ended. See docs/WORKFLOWS.md for the rules that a workflow must follow.

    Args:
        context: The message's context.
        journal: Where the steps' outcomes are written; None = they are not journaled, and a restarted run repeats them
            all.
        name: The workflow's name, for messages.
    """

    def __init__(self, context: CallContext, journal: Journal | None = None, name: str = "workflow") -> None:
        self.id = context.run
        self.tenant = context.tenant
        self.lane = context.lane
        self.written = context.written
        """When its request was written, unix seconds."""
        self.min_epoch = context.min_epoch
        """The minimum epoch of passages; None = any. Every call of the run carries it."""
        self.stream_writer = context.stream_writer
        """Streams the answer's text; None = the caller did not request a stream."""
        self.random = random.Random(context.run)  # noqa: S311 - deterministic, so that replays see the same numbers
        """Random numbers, the same in every execution."""
        self.steps: list[StepRecord] = []
        """The finished steps and their outcomes."""
        self.annotations = RunAnnotations()
        self.requested_at = start_time(context.written, time.time())
        """`written`, or now if that is impossible (`start_time`), unix seconds."""
        self._context = context
        self._reserved = 0.0
        # The steps of a nested run are prefixed with the nested run's own step.
        self._prefix = "" if context.step == ROOT_STEP else f"{context.step}/"
        self._ids = StepNames()
        self._executor = StepExecutor(f"run {context.run} ({name})", journal)

    async def execute(self, work: Coroutine[Any, Any, T]) -> T:
        """Run the workflow's coroutine, replaying its journal first.

        Raises:
            NonDeterminismError: The steps differ from the journal.
        """
        return await self._executor.execute(work)

    # -- time -----------------------------------------------------------------------------------------------------

    def remaining(self) -> float:
        """Return the seconds until the deadline, never negative."""
        return self._context.remaining()

    def reserve(self, share: float) -> None:
        """Reserve a share of the remaining time, in which a lower rung can answer."""
        self._reserved = self.remaining() * share

    def step_budget(self) -> float:
        """Return the seconds that a step may still use."""
        return max(0.0, self.remaining() - self._reserved)

    async def now(self) -> float:
        """Return the time, unix seconds; the same in every execution."""

        async def read() -> float:
            return time.time()

        step_request: StepRequest[float] = self._step_request("now", to_json, from_json)
        return (await self._executor.run_step(step_request, read))[0]

    async def sleep(self, seconds: float) -> None:
        """Sleep without holding a handling slot.

        The wake-up time is journaled: a restarted run waits for the rest only.
        """
        step_request: StepRequest[float] = self._step_request("wake", to_json, from_json, to_json(seconds))

        async def wake() -> float:
            return time.time() + seconds

        until, _ = await self._executor.run_step(step_request, wake)

        async def wait() -> None:  # its handling slot is taken again before the step ends
            async with parked():
                await asyncio.sleep(max(0.0, until - time.time()))

        await self._timer_step("sleep", seconds, wait)

    def timeout(self, seconds: float) -> Timeout:
        """`async with run.timeout(2):` is like `asyncio.timeout`; if it fired, a replay fires it at once."""
        return Timeout(
            lambda: self._timer_step("timeout", seconds, lambda: asyncio.sleep(seconds), journal_abandonment=False)
        )

    def _timer_step(
        self, description: str, seconds: float, wait: Callable[[], Awaitable[None]], *, journal_abandonment: bool = True
    ) -> Coroutine[Any, Any, object]:
        # Named now, not when its task starts: a task that is cancelled before would leave its name to the next step.
        step_request: StepRequest[None] = self._step_request(
            description, lambda _: b"", lambda _: None, to_json(seconds), journal_abandonment=journal_abandonment
        )
        return self._executor.run_step(step_request, wait)

    # -- randomness ------------------------------------------------------------------------------------------------

    def uuid(self) -> UUID:
        """Return a UUID, the same in every execution."""
        return UUID(int=self.random.getrandbits(128), version=4)

    # -- steps ----------------------------------------------------------------------------------------------------

    async def call(
        self,
        request: Request[ReplyT],
        *,
        id: str | None = None,  # noqa: A002 - it is an id
        timeout: float | None = None,  # noqa: ASYNC109 - it is sent along, and every hop applies it
        stream: bool = False,
        guard: Guard | None = None,
    ) -> ReplyT:
        """Call a tier; while it waits for the reply, the run's message holds no handling slot.

        Args:
            request: The request; its type determines the tier.
            id: The step's id; by default it is derived from the request.
            timeout: Seconds; the step budget limits it too.
            stream: Stream the text of the reply to the run's caller as it is written, if it requested a stream.
            guard: Entered around the call itself, with the seconds that it has. It may refuse the call by a PoiseError,
                and sees how it ends. It is not entered when the call is replayed.

        Raises:
            EncodingError: The request has a field without a JSON form.
            PoiseError: The reply is a fault, or no reply arrived in time.
        """
        name, body = request.kind.partition("/")[0], encode(request)
        parse: Callable[[bytes], ReplyT] = request.reply.parse
        step_request = self._step_request(f"call {request.kind}", encode, parse, body, id=id, name=name)
        writer = self.stream_writer if stream else None
        options = CallOptions(
            run=self.id,
            step=step_request.step_id,
            tenant=self.tenant,
            lane=self.lane,
            min_epoch=self.min_epoch,
            stream=writer,
        )
        called = False

        async def work() -> ReplyT:
            nonlocal called
            called = True
            left = self.step_budget() if timeout is None else min(timeout, self.step_budget())
            if left <= 0:
                raise DeadlineExceededError(f"no time was left for step {step_request.step_id}")
            deadline = min(self._context.deadline, time.time() + left)
            with nullcontext() if guard is None else guard(left):
                async with parked():
                    return await self._context.rpc.call(request, replace(options, deadline=deadline))

        reply = await self._run_recorded_step(id or name, step_request, work)
        if writer is not None and not called:  # its text went to an earlier reader
            writer.start_attempt()
            await writer.on_reply(reply, None)
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
        """Make many calls with bounded concurrency.

        Args:
            requests: The requests.
            width: Maximum number of concurrent calls.
            partial: Return the error in place of a reply that failed or exceeded the step budget.

        Returns:
            The replies, in the order of the requests.

        Raises:
            PoiseError: The first error, unless `partial`; the other calls are cancelled.
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
        in_run_record: bool = ...,
    ) -> T: ...
    @overload
    async def step(
        self,
        name: str,
        function: Callable[..., T],
        *args: object,
        returns: Any = ...,
        id: str | None = ...,
        in_run_record: bool = ...,
    ) -> T: ...
    async def step(
        self,
        name: str,
        function: Callable[..., Any],
        *args: object,
        returns: Any = None,
        id: str | None = None,  # noqa: A002
        in_run_record: bool = True,
    ) -> Any:
        """Run a function as a step: anything costly or non-deterministic that is not a call.

        Args:
            name: The step's name.
            function: An async function runs in the event loop, a plain one in a thread.
            args: Its arguments. A value without a JSON form counts only by its type when a replay is compared.
            returns: The type of the result: a message, or a type that pydantic can write as JSON; None = the return
                annotation.
            id: The step's id; by default it is derived from the name and the arguments.
            in_run_record: Whether it appears in the run's `steps`, timings and spans; False for
                bookkeeping of the workflow, whose time no timing shows. It is journaled in both cases.

        Raises:
            PoiseError: The function raised it. When the run is retried, a step that raised a retryable error, or any
                other exception, runs again.
        """
        adapter = result_adapter(function, returns)
        unchanged: Callable[[bytes], bytes] = bytes  # `run_function` has encoded the result already
        step_request = self._step_request(f"step {name}", unchanged, unchanged, arguments_json(args), id=id, name=name)

        async def work() -> bytes:
            if not in_run_record:
                return await run_function(name, function, args, adapter)
            with span(semconv.step_span(name)):
                return await run_function(name, function, args, adapter)

        raw = (
            await self._run_recorded_step(id or name, step_request, work)
            if in_run_record
            else (await self._executor.run_step(step_request, work))[0]
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
        """Publish a message of this run once, and wait until the broker has acknowledged it; None is a tombstone.

        Topic and key identify the step in a replay, not the content, which may contain the time.

        Raises:
            UnavailableError: The broker did not acknowledge it.
        """
        description = f"publish {topic.name}"
        step_request: StepRequest[Position] = self._step_request(
            description, to_json, _position, to_json(key), id=id, name="publish"
        )
        return (await self._executor.run_step(step_request, lambda: self._context.publish(topic, message, key=key)))[0]

    # -- shared by all steps ---------------------------------------------------------------------------------------

    def _step_request(
        self,
        description: str,
        encode: Callable[[T], bytes],
        decode: Callable[[bytes], T],
        body: bytes = b"null",
        *,
        id: str | None = None,  # noqa: A002
        name: str | None = None,
        journal_abandonment: bool = True,
    ) -> StepRequest[T]:
        digest = request_digest(description, body)
        step_id = self._prefix + self._ids.unique(id or f"{name or description}-{digest}")
        return StepRequest(step_id, description, digest, encode, decode, journal_abandonment)

    async def _run_recorded_step(self, name: str, step_request: StepRequest[T], work: Callable[[], Awaitable[T]]) -> T:
        began = time.perf_counter()
        fault: str | None = CANCELLED_TYPE
        ms: float | None = None
        try:
            result, ms = await self._executor.run_step(step_request, work)
        except PoiseError as error:
            fault = error.fault().type
            raise
        else:
            fault = None
            return result
        finally:
            duration = round((time.perf_counter() - began) * 1_000 if ms is None else ms, 1)
            self.steps.append(StepRecord(step=name, ms=duration, fault=fault))

    def timings(self) -> dict[str, float]:
        """Return milliseconds by step, the longest of each name, and `total` since the run was requested."""
        total = round((time.time() - self.requested_at) * 1_000, 1)
        return {**longest_by_step(self.steps), "total": total}


def _position(body: bytes) -> Position:
    return Position(**from_json(body))
