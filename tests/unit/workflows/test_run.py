"""Runs: step ids and names, results, what is not journaled, and non-determinism."""

import asyncio
import random
import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from memory_journal import CrashingJournal, Do, RandomCallContext, StoredJournal, run_with

from poise.contracts.topics import RECORDS
from poise.errors import (
    DeadlineExceededError,
    FaultError,
    InvalidMessageError,
    NonDeterminismError,
    NotAcknowledgedError,
    PoiseError,
    RetryableError,
    RunCancelledError,
    TerminalError,
    UnavailableError,
)
from poise.rpc.client import CallOptions
from poise.telemetry import semconv
from poise.workflows.fault_codec import decode_fault, encode_fault
from poise.workflows.run import Run
from poise.workflows.step_ids import StepNames, request_digest

Body = Callable[[Run], Awaitable[Any]]


async def execute(stored: StoredJournal | None, body: Body, seed: int = 0) -> tuple[Any, RandomCallContext]:
    run, context = run_with(stored, seed)
    return await run.execute(_coroutine(body, run)), context


async def _coroutine(body: Body, run: Run) -> Any:
    return await body(run)


# -- ids ---------------------------------------------------------------------------------------------------------------


@given(st.dictionaries(st.text(), st.integers() | st.text()))
def test_an_id_does_not_depend_on_the_order_of_fields(fields: dict[str, Any]) -> None:
    import json  # noqa: PLC0415

    backwards = dict(reversed(fields.items()))
    assert request_digest("call", json.dumps(fields).encode()) == request_digest("call", json.dumps(backwards).encode())


@given(st.lists(st.sampled_from(["a", "a.2", "a.2.2", "b"])))
def test_names_are_unique(requested: list[str]) -> None:
    names = StepNames()
    unique = [names.unique(name) for name in requested]
    assert len(set(unique)) == len(unique)


async def test_ids_consist_of_a_name_a_hash_and_the_occurrence() -> None:
    async def body(run: Run) -> list[str]:
        await asyncio.gather(run.call(Do(number=1)), run.call(Do(number=2)), run.call(Do(number=1)))
        await run.call(Do(number=3), id="third")
        return [step.step for step in run.steps]

    ids = []
    for seed in range(5):
        names, context = await execute(StoredJournal(), body, seed)
        assert sorted(names) == ["do", "do", "do", "third"]
        ids.append(sorted(context.called))
    assert ids == [ids[0]] * 5
    assert [re.sub("[0-9a-f]{8}", "#", step) for step in ids[0]] in (["do-#", "do-#", "do-#.2", "third"],
                                                                    ["do-#", "do-#.2", "do-#", "third"])  # fmt: skip


async def test_steps_of_a_nested_run_are_prefixed() -> None:
    inner = RandomCallContext(random.Random(0), step="plan-0a1b2c3d")
    await Run(inner).call(Do(number=1), id="x")
    assert inner.called == ["plan-0a1b2c3d/x"]


@pytest.mark.parametrize(
    ("step", "expected"),
    [("do-0a1b2c3d", "do"), ("do-0a1b2c3d.12", "do"), ("plan-0a1b2c3d.2/x.3", "plan/x"), ("in de", "in de")],
)
def test_span_names_omit_hash_and_occurrence(step: str, expected: str) -> None:
    assert semconv.call_span(step) == f"call {expected}"


# -- results -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        DeadlineExceededError("late"),
        NotAcknowledgedError("no leader"),
        UnavailableError("away"),
        TerminalError("never"),
        RunCancelledError("nobody"),
        InvalidMessageError("x: wrong"),
        FaultError(DeadlineExceededError("elsewhere").fault()),
    ],
)
def test_a_decoded_fault_has_its_class(error: PoiseError) -> None:
    back = decode_fault(encode_fault(error))
    assert (type(back), str(back), back.fault()) == (type(error), str(error), error.fault())


async def test_an_inline_step_runs_once_and_its_result_has_its_type() -> None:
    done = []

    def plain(number: int) -> tuple[int, set[str]]:
        done.append(number)
        return number, {"a"}

    async def body(run: Run) -> Any:
        return await run.step("plain", plain, 7), await run.step("typed", lambda: {"number": 3}, returns=dict[str, int])

    stored = StoredJournal()
    for _ in range(2):
        assert (await execute(stored, body))[0] == ((7, {"a"}), {"number": 3})
    assert done == [7]


async def test_a_replayed_run_does_not_publish_again() -> None:
    async def body(run: Run) -> Any:
        return await run.publish(RECORDS, None, key="k")

    stored = StoredJournal()
    first, context = await execute(stored, body)
    again, other = await execute(stored, body)
    assert first == again
    assert (len(context.published), other.published) == (1, [])


class ReadOnlyJournal(CrashingJournal):
    """A journal that must not be written."""

    def __init__(self, stored: StoredJournal) -> None:
        super().__init__(stored, random.Random(0))
        self.crashed = True


async def test_a_replay_does_not_wait_for_a_timeout_that_fired(monkeypatch: pytest.MonkeyPatch) -> None:
    never = asyncio.Event()

    async def body(run: Run) -> str:
        try:
            async with run.timeout(0.05):
                await run.step("ever", never.wait)
        except TimeoutError:
            return "fired"
        return "not"

    stored = StoredJournal()
    assert (await execute(stored, body))[0] == "fired"
    assert sorted(entry.outcome for entry in stored.entries.values()) == ["given-up", "value"]
    monkeypatch.setattr(asyncio, "sleep", None)  # so that waiting would fail
    run = Run(RandomCallContext(random.Random(0)), ReadOnlyJournal(stored))
    assert await run.execute(_coroutine(body, run)) == "fired"


# -- what is not journaled ---------------------------------------------------------------------------------------------


async def test_steps_in_flight_when_a_run_is_interrupted_are_repeated() -> None:
    step_started = asyncio.Event()
    started = []

    async def slow() -> str:
        started.append(1)
        step_started.set()
        await asyncio.Event().wait()
        return "never"

    async def body(run: Run) -> Any:
        await run.call(Do(number=1))
        return await asyncio.gather(run.step("slow", slow), run.call(Do(number=2)))

    stored = StoredJournal()
    run, _ = run_with(stored)
    task = asyncio.ensure_future(run.execute(_coroutine(body, run)))
    await step_started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert all(entry.outcome == "value" for entry in stored.entries.values())
    assert not any(step.startswith("slow") for step in stored.entries)
    run, _ = run_with(stored)
    task = asyncio.ensure_future(run.execute(_coroutine(body, run)))
    while len(started) < 2:  # noqa: ASYNC110 - the step must start again
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_cancellation_by_a_timeout_outside_is_an_interruption() -> None:
    async def body(run: Run) -> Any:
        return await run.step("ever", asyncio.Event().wait)

    stored = StoredJournal()
    run, _ = run_with(stored)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):  # like the handler's deadline
            await run.execute(_coroutine(body, run))
    assert stored.entries == {}


async def test_a_replay_repeats_an_inner_timeout() -> None:
    async def body(run: Run) -> str:
        try:
            async with asyncio.timeout(0.02):
                await run.step("ever", asyncio.Event().wait)
        except TimeoutError:
            return f"given up, then {(await run.call(Do(number=1))).number}"
        return "done"

    stored = StoredJournal()
    first, context = await execute(stored, body)
    again, other = await execute(stored, body)
    assert first == again == "given up, then 1"
    assert (len(context.called), other.called) == (1, [])


@pytest.mark.parametrize("error", [RetryableError("later"), ZeroDivisionError("a bug")])
async def test_a_retried_run_repeats_steps_with_retryable_errors_or_bugs(error: Exception) -> None:
    tries = []

    async def flaky() -> int:
        tries.append(1)
        if len(tries) == 1:
            raise error
        return len(tries)

    async def body(run: Run) -> tuple[int, int]:
        first = await run.call(Do(number=1))
        return first.number, await run.step("flaky", flaky)

    stored = StoredJournal()
    with pytest.raises(type(error)):
        await execute(stored, body)
    result, context = await execute(stored, body)
    assert (result, context.called) == ((1, 2), [])


async def test_a_worker_that_lost_its_run_does_not_write_the_journal() -> None:
    stored = StoredJournal()
    chance = random.Random(0)
    old, new = CrashingJournal(stored, chance), CrashingJournal(stored, chance)
    run = Run(RandomCallContext(chance), old)

    async def body() -> int:
        await new.open()
        return (await run.call(Do(number=1))).number

    assert await run.execute(body()) == 1
    assert stored.entries == {}


# -- non-determinism ---------------------------------------------------------------------------------------------------


async def test_another_request_with_the_same_id_is_non_deterministic() -> None:
    stored = StoredJournal()
    await execute(stored, lambda run: run.call(Do(number=1), id="one"))
    with pytest.raises(
        NonDeterminismError,
        match=r"run 5d1c.* .workflow w version 1. .*step one \(call do/1, value\).*version=2.*redrive",
    ):
        await execute(stored, lambda run: run.call(Do(number=2), id="one"))


async def test_a_workflow_cannot_swallow_non_determinism(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("poise.workflows.step_executor.STALL_TIMEOUT", 0.05)

    async def first(run: Run) -> None:
        await run.call(Do(number=1), id="one")
        await run.call(Do(number=2), id="two")

    async def then(run: Run) -> str:
        await run.call(Do(number=1), id="one")
        try:
            await run.call(Do(number=3), id="three")
        except PoiseError:
            return "a lower rung"
        return "done"

    stored = StoredJournal()
    await execute(stored, first)
    with pytest.raises(NonDeterminismError, match=r"step two \(call do/1, value\) is next .* step three"):
        await execute(stored, then)


async def test_a_partial_map_does_not_return_non_determinism() -> None:
    stored = StoredJournal()
    await execute(stored, lambda run: run.map([Do(number=1), Do(number=2)], partial=True))
    returned = []

    async def then(run: Run) -> None:
        returned.append(await run.map([Do(number=1), Do(number=3)], partial=True))

    with pytest.raises(NonDeterminismError, match="is next in its journal"):
        await execute(stored, then)
    assert returned == []


async def test_returning_too_early_is_non_deterministic() -> None:
    async def first(run: Run) -> None:
        await run.call(Do(number=1), id="one")
        await run.call(Do(number=2), id="two")

    stored = StoredJournal()
    await execute(stored, first)
    with pytest.raises(NonDeterminismError, match="returned without requesting step two"):
        await execute(stored, lambda run: run.call(Do(number=1), id="one"))


async def test_a_task_that_outlives_the_workflow_is_not_non_deterministic() -> None:
    async def body(run: Run) -> int:
        unfinished = asyncio.ensure_future(run.call(Do(number=1)))
        reply = await run.call(Do(number=2))
        unfinished.cancel()
        return reply.number

    for seed in range(30):
        stored = StoredJournal()
        for again in range(3):
            assert (await execute(stored, body, seed + again))[0] == 2


# -- fan-out -----------------------------------------------------------------------------------------------------------


async def test_map_returns_replies_in_order_and_bounds_concurrency() -> None:
    run, context = run_with(None)
    in_flight, most = 0, 0
    call = context.call

    async def counted(request: Any, options: CallOptions) -> Any:
        nonlocal in_flight, most
        in_flight += 1
        most = max(most, in_flight)
        try:
            return await call(request, options)
        finally:
            in_flight -= 1

    context.call = counted  # type: ignore[method-assign]
    replies = await run.map([Do(number=number) for number in range(20)], width=3)
    assert [reply.number for reply in replies] == list(range(20))
    assert most == 3


async def test_the_first_fault_cancels_the_rest_unless_partial() -> None:
    requests = [Do(number=number, fails=number == 1) for number in range(10)]
    run, _ = run_with(None)
    with pytest.raises(FaultError, match="F: 1"):
        await run.map(requests, width=2)
    run, context = run_with(None)
    results = await run.map(requests, width=2, partial=True)
    assert [isinstance(one, FaultError) for one in results] == [number == 1 for number in range(10)]
    context.left = 0.0
    late = await run.map(requests, partial=True)
    assert all(isinstance(one, DeadlineExceededError) for one in late)
    assert len(context.called) == 10
