"""Handlers that wait release their slots: a message behind them is handled at once."""

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from uuid import uuid4

import pytest
from integration_kit import serving, until

from poise import Run, workflow
from poise.contracts import Answer, Ask, Completion, Fetch, Generate
from poise.contracts.generate import ChatMessage
from poise.errors import FaultError, RetryableError
from poise.kafka import consumer
from poise.kafka.consumer import ConsumerLimits
from poise.rpc.client import CallOptions
from poise.settings import MeshSettings
from poise.worker.context import Context
from poise.worker.retry_policy import OVERLOAD_RETRY_AFTER
from poise.worker.tier import Tier
from poise_services.orchestration.answer import AskHandler

pytestmark = pytest.mark.integration

SLOTS = 4
MANY = 3 * SLOTS
RUNS = 100
"""More runs than an orchestration worker has slots."""
LONG = 200.0
"""Seconds: longer than any test waits."""


def generate(text: str) -> Generate:
    return Generate(messages=(ChatMessage(role="user", content=text),))


class WaitingHandler:
    """A tier whose handler waits in the way that the message names."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.resume = asyncio.Event()
        self.tier = Tier("inference", {Generate: self.handle}, concurrency=SLOTS)

    async def handle(self, request: Generate, context: Context) -> Completion:
        wait = request.messages[0].content
        self.started.append(wait)
        match wait:
            case "parks":
                async with context.parked():
                    await self.resume.wait()
            case "tries again":
                raise RetryableError("later", retry_after=LONG / 2)
            case "calls":
                await context.call(Fetch(integration="nobody"), step="fetch")
            case "has copies":
                await asyncio.Event().wait()
        return Completion(text=wait, model="m", backend="b", finish_reason="stop")


@asynccontextmanager
async def pending_calls(*calls: Coroutine[None, None, object]) -> AsyncIterator[list[asyncio.Task[object]]]:
    """Start calls; cancel them at the end."""
    tasks = [asyncio.create_task(call) for call in calls]
    yield tasks
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("wait", ["parks", "tries again", "calls", "has copies"])
async def test_a_waiting_handler_holds_no_slot(mesh_settings: MeshSettings, wait: str) -> None:
    handler, key, run = WaitingHandler(), uuid4().hex, uuid4().hex  # one key, so the last message is behind all others
    runs = [run if wait == "has copies" else f"{run}-{number}" for number in range(MANY)]
    begin = 1 if wait == "has copies" else MANY
    async with serving(mesh_settings, handler.tier) as mesh:
        deadline = time.time() + LONG
        calls = (
            mesh.rpc.call(generate(wait), CallOptions(run=one, step="g", key=key, deadline=deadline)) for one in runs
        )
        async with pending_calls(*calls):
            await until(lambda: handler.started.count(wait) == begin)
            reply = await mesh.rpc.call(generate("quick"), CallOptions(run=uuid4().hex, step="g", key=key))
            assert reply.text == "quick"
            assert handler.started.count(wait) == begin


async def test_a_request_beyond_the_parked_limit_is_rejected_with_retry_after(
    mesh_settings: MeshSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fill the worker with parked asks: a small version of 577 asks of a hanging model with deadlines of 300 s."""
    monkeypatch.setattr(consumer, "REJECT_AFTER", 0.5)
    handler, key = WaitingHandler(), uuid4().hex
    room = SLOTS * (1 + ConsumerLimits().parked_factor)
    async with serving(mesh_settings, handler.tier) as mesh:

        async def ask(wait: str) -> Completion:
            request, deadline = generate(wait), time.time() + LONG
            return await mesh.rpc.call(request, CallOptions(run=uuid4().hex, step="g", key=key, deadline=deadline))

        async with pending_calls(*(ask("parks") for _ in range(room))) as tasks:
            await until(lambda: handler.started.count("parks") == room)
            behind = await asyncio.gather(*(ask("quick") for _ in range(20)), return_exceptions=True)
            faults = [one.fault() for one in behind if isinstance(one, FaultError)]
            assert {(one.type, one.status, one.retryable, one.retry_after) for one in faults} == {
                ("urn:poise:temporary", 503, True, OVERLOAD_RETRY_AFTER)
            }
            assert len(faults) == 20
            assert "quick" not in handler.started
            handler.resume.set()
            assert (await ask("quick")).text == "quick"
            await asyncio.gather(*tasks)  # no parked ask was lost


@workflow("sleeps")
async def sleeps(run: Run, ask: Ask) -> Answer:
    await run.sleep(LONG)
    return Answer(run_id=run.id, text=ask.question, rung="primary")


@workflow("calls")
async def calls(run: Run, ask: Ask) -> Answer:
    await run.call(generate(ask.question))  # no worker answers it
    return Answer(run_id=run.id, text=ask.question, rung="primary")


@workflow("quick")
async def quick(run: Run, ask: Ask) -> Answer:
    return Answer(run_id=run.id, text=ask.question, rung="primary")


@pytest.mark.parametrize("wait", ["sleeps", "calls"])
async def test_a_hundred_waiting_runs_do_not_delay_others(mesh_settings: MeshSettings, wait: str) -> None:
    async with serving(mesh_settings, Tier("orchestration", AskHandler([sleeps, calls, quick]).handlers())) as mesh:

        async def ask(workflow: str) -> Answer:
            run = uuid4().hex
            asked = Ask(question=run, workflow=workflow)
            return await mesh.rpc.call(asked, CallOptions(run=run, step="ask", deadline=time.time() + LONG))

        async with pending_calls(*(ask(wait) for _ in range(RUNS))) as tasks:
            answers = await asyncio.gather(*(ask("quick") for _ in range(RUNS)))
            assert len(answers) == RUNS
            assert not any(task.done() for task in tasks)
