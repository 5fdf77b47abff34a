"""Cancellation: running work is stopped on its worker, waiting work is dropped, and neither is repeated."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
from integration_kit import PlainKafkaClient, serving, until

from poise.client import Poise
from poise.contracts import Answer, Ask, Cancel, Completion, Fault, Generate
from poise.contracts.generate import ChatMessage
from poise.contracts.topics import CANCEL, INFERENCE_INTERACTIVE, SCORES, dead_letter_topic_name
from poise.errors import RunCancelledError
from poise.kafka.consumer import ConsumerLimits
from poise.kafka.record import Record
from poise.rpc import cancellation
from poise.rpc.client import CallOptions
from poise.rpc.recent_cancels import CancelKey, RecentCancels
from poise.settings import MeshSettings
from poise.worker.context import Context
from poise.worker.runtime import WorkerRuntime
from poise.worker.tier import Tier

pytestmark = pytest.mark.integration

HELLO = Generate(messages=(ChatMessage(role="user", content="x"),))


class SlowTier:
    """An inference tier whose steps end on request; it records which started, ended and were cancelled."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.ended: list[str] = []
        self.cancelled: list[str] = []
        self.may_end = asyncio.Event()

    def tier(self, concurrency: int | None = None) -> Tier:
        return Tier("inference", {Generate: self._generate}, concurrency=concurrency)

    async def _generate(self, _request: Generate, context: Context) -> Completion:
        name = f"{context.run}/{context.step}"
        self.started.append(name)
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            self.cancelled.append(name)
            raise
        self.ended.append(name)
        return Completion(text=name, model="m", backend="b", finish_reason="stop")


async def ask_inference(ask: Ask, context: Context) -> Answer:
    reply = await context.call(HELLO, step=ask.question)
    return Answer(run_id=context.run, text=reply.text, rung="primary")


ORCHESTRATION = Tier("orchestration", {Ask: ask_inference})


def client_settings(settings: MeshSettings) -> MeshSettings:
    return MeshSettings(broker=settings.broker)


@pytest.fixture
async def client(mesh_settings: MeshSettings) -> AsyncIterator[WorkerRuntime]:
    async with WorkerRuntime(client_settings(mesh_settings), tier="client") as mesh:
        yield mesh


async def cancel_task(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def send(plain_client: PlainKafkaClient, run: str, step: str = "g", **headers: str) -> Record:
    named: dict[str, Any] = {"poise_run": run, "poise_step": step, **headers}
    return await plain_client.send(INFERENCE_INTERACTIVE.name, HELLO.encode(), key=b"k", **named)


async def read_fault(plain_client: PlainKafkaClient, sent: Record) -> Fault:
    reply = await plain_client.reply(sent)
    assert reply.header("poise-kind") == Fault.kind
    return Fault.parse(reply.value or b"")


async def test_an_abandoned_call_is_cancelled_on_its_worker(
    mesh_settings: MeshSettings, client: WorkerRuntime, plain_client: PlainKafkaClient
) -> None:
    slow, run = SlowTier(), uuid4().hex
    async with serving(mesh_settings, slow.tier()) as mesh:
        call = asyncio.create_task(client.rpc.call(HELLO, CallOptions(run=run, step="g")))
        await until(lambda: f"{run}/g" in slow.started)
        copy = await send(plain_client, run)  # from another caller of the same step
        other_step = asyncio.create_task(client.rpc.call(HELLO, CallOptions(run=run, step="h")))
        await until(lambda: f"{run}/h" in slow.started)
        await cancel_task(call)
        caught = await read_fault(plain_client, copy)
        assert (caught.type, caught.status, caught.retryable) == ("urn:poise:cancelled", 499, False)
        await until(lambda: slow.cancelled == [f"{run}/g"])
        slow.may_end.set()
        assert (await other_step).text == f"{run}/h"  # the step was cancelled, not the run
        again = await client.rpc.call(HELLO, CallOptions(run=run, step="g"))  # repeated with the same step name
        assert again.text == f"{run}/g"
        letters = await mesh.logs.read_topic(dead_letter_topic_name("inference"))
    assert not [letter for letter in letters if letter.header("poise-run") == run]


async def test_an_abandoned_ask_cancels_its_run_and_its_steps_with_one_message(
    mesh_settings: MeshSettings,
) -> None:
    slow = SlowTier()
    inference = mesh_settings.model_copy(update={"instance": f"{mesh_settings.instance}-inference"})
    async with (
        serving(mesh_settings, ORCHESTRATION),
        serving(inference, slow.tier()) as mesh,
        Poise(settings=client_settings(mesh_settings)) as poise,
    ):
        since = time.time()
        ask = asyncio.create_task(poise.ask("generate"))
        await until(lambda: len(slow.started) == 1)
        await cancel_task(ask)
        await until(lambda: len(slow.cancelled) == 1)
        run = slow.cancelled[0].partition("/")[0]
        found = await mesh.logs.read_key(CANCEL.name, run, since=since)
    (cancel,) = [Cancel.parse(record.value or b"") for record in found]
    assert (cancel.run, cancel.step, cancel.tenant) == (run, None, "default")


async def test_waiting_messages_of_a_cancelled_run_are_dropped(
    mesh_settings: MeshSettings, client: WorkerRuntime, plain_client: PlainKafkaClient
) -> None:
    slow, run, other = SlowTier(), uuid4().hex, uuid4().hex
    async with serving(mesh_settings, slow.tier(concurrency=1)) as mesh:
        first = asyncio.create_task(client.rpc.call(HELLO, CallOptions(run=other, step="g", key="k")))
        await until(lambda: len(slow.started) == 1)
        waiting = [await send(plain_client, run, f"{n}") for n in range(3)]
        await client.rpc.cancel(run)
        await until(lambda: (mesh.settings.tenant, run, None) in mesh.cancellation._recent)
        slow.may_end.set()
        assert {(await read_fault(plain_client, sent)).type for sent in waiting} == {"urn:poise:cancelled"}
        await first
    assert slow.started == [f"{other}/g"]


async def test_a_worker_reads_cancels_written_before_its_start_or_before_the_run(
    mesh_settings: MeshSettings, client: WorkerRuntime, plain_client: PlainKafkaClient
) -> None:
    slow, run = SlowTier(), uuid4().hex
    slow.may_end.set()
    await client.rpc.cancel(run)
    await client.rpc.cancel(uuid4().hex)  # an unknown run
    await client.producer.records.send(CANCEL.name, b"no cancel", key=None, headers=[])
    sent = await send(plain_client, run)
    async with serving(mesh_settings, slow.tier()):
        assert (await read_fault(plain_client, sent)).type == "urn:poise:cancelled"
        with pytest.raises(RunCancelledError):
            await client.rpc.call(HELLO, CallOptions(run=run, step="another"))
        await client.rpc.cancel(run)
        ended = uuid4().hex
        assert (await client.rpc.call(HELLO, CallOptions(run=ended, step="g"))).text == f"{ended}/g"
        await client.rpc.cancel(ended)  # no effect: the run has ended
        assert (await client.rpc.call(HELLO, CallOptions(run=uuid4().hex, step="g"))).finish_reason == "stop"
    assert not [name for name in slow.started if name.startswith(run)]


async def test_a_cancel_of_another_tenant_has_no_effect(
    mesh_settings: MeshSettings, client: WorkerRuntime, plain_client: PlainKafkaClient
) -> None:
    slow, run = SlowTier(), uuid4().hex
    slow.may_end.set()
    await client.rpc.cancel(run, tenant="another-tenant")
    async with serving(mesh_settings, slow.tier()):
        assert (await plain_client.reply(await send(plain_client, run))).header("poise-kind") == Completion.kind


async def test_cancelled_work_is_committed_and_interrupted_work_is_repeated(
    mesh_settings: MeshSettings, client: WorkerRuntime, plain_client: PlainKafkaClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "poise.worker.tier_runner.ConsumerLimits", lambda concurrency: ConsumerLimits(concurrency, drain_timeout=0.05)
    )
    first, second = SlowTier(), SlowTier()
    cancelled_run, interrupted_run = uuid4().hex, uuid4().hex
    async with serving(mesh_settings, first.tier()):
        sent = [await send(plain_client, run) for run in (cancelled_run, interrupted_run)]
        await until(lambda: len(first.started) == 2)
        await client.rpc.cancel(cancelled_run)
        assert (await read_fault(plain_client, sent[0])).type == "urn:poise:cancelled"
    assert set(first.cancelled) == {f"{cancelled_run}/g", f"{interrupted_run}/g"}
    # The next worker must not know what was cancelled: the commit prevents it from repeating the work.
    monkeypatch.setattr("poise.rpc.cancellation.CANCEL", SCORES)
    second.may_end.set()
    async with serving(mesh_settings, second.tier()):
        assert (await plain_client.reply(sent[1])).header("poise-kind") == Completion.kind
        await client.rpc.call(
            HELLO, CallOptions(run=uuid4().hex, step="g", key="k")
        )  # everything before it was handled
    assert f"{interrupted_run}/g" in second.started
    assert f"{cancelled_run}/g" not in second.started


async def test_an_interrupted_handler_cancels_none_of_its_calls(
    mesh_settings: MeshSettings, client: WorkerRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "poise.worker.tier_runner.ConsumerLimits", lambda concurrency: ConsumerLimits(concurrency, drain_timeout=0.05)
    )
    slow, run = SlowTier(), uuid4().hex
    inference = mesh_settings.model_copy(update={"instance": f"{mesh_settings.instance}-inference"})
    async with serving(inference, slow.tier()):
        async with serving(mesh_settings, ORCHESTRATION):
            ask = asyncio.create_task(client.rpc.call(Ask(question="g"), CallOptions(run=run, step="ask", key=run)))
            await until(lambda: f"{run}/g" in slow.started)
        async with serving(mesh_settings, ORCHESTRATION):
            slow.may_end.set()
            assert (await ask).text == f"{run}/g"
        assert not await client.logs.read_key(CANCEL.name, run)
    assert slow.cancelled == []


async def test_a_handler_that_ignores_cancellation_is_cancelled_again_and_logged(
    mesh_settings: MeshSettings,
    client: WorkerRuntime,
    plain_client: PlainKafkaClient,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(cancellation, "RECANCEL_INTERVAL", 0.01)
    swallowed, started, may_end, run = 0, asyncio.Event(), asyncio.Event(), uuid4().hex

    async def ignore_cancellation(_request: Generate, _context: Context) -> Completion:
        nonlocal swallowed
        started.set()
        while not may_end.is_set():
            try:
                await may_end.wait()
            except asyncio.CancelledError:
                swallowed += 1
        raise RuntimeError("an error after the cancellation is ignored")

    async with serving(mesh_settings, Tier("inference", {Generate: ignore_cancellation})) as mesh:
        sent = await send(plain_client, run)
        await started.wait()
        await client.rpc.cancel(run)
        await until(lambda: "cannot be cancelled" in caplog.text)
        may_end.set()
        assert (await read_fault(plain_client, sent)).type == "urn:poise:cancelled"
        letters = await mesh.logs.read_topic(dead_letter_topic_name("inference"))
    assert swallowed == 1 + cancellation.MAX_RECANCELS
    assert not [letter for letter in letters if letter.header("poise-run") == run]


async def test_remembered_cancels_are_bounded_and_expire(
    mesh_settings: MeshSettings, caplog: pytest.LogCaptureFixture
) -> None:
    registry = WorkerRuntime(mesh_settings, tier="t").cancellation
    registry._recent = RecentCancels(max_cancels=6)

    def take(run: str, deadline: float, now: float) -> None:
        cancel = Cancel(run=run, tenant="t", deadline=round(deadline * 1_000))
        registry._apply(Record(CANCEL.name, 0, 0, now, None, cancel.encode()), now)

    def counts(run: str, now: float) -> bool:
        return registry._recent.cancelled_at(CancelKey("t", run, None), now) > 0

    for n in range(5):
        take(f"{n}", 1_010, 1_000)
    assert [f"{n}" for n in range(5) if counts(f"{n}", 1_000)] == ["2", "3", "4"], "one tenant may use half"
    assert "evicted before its deadline" in caplog.text
    take("late", 1_010, 1_020)
    assert len(registry._recent) == 3  # it had expired and was not stored
    take("absurd", 10**12, 1_500)
    assert (counts("absurd", 1_500 + 6 * 3_600), counts("absurd", 1_500 + 7 * 3_600)) == (True, False)
