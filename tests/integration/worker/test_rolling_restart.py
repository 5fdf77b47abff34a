"""The workers of a tier are restarted one by one while calls arrive."""

import asyncio
import sys
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from itertools import pairwise
from uuid import uuid4

import pytest
from integration_kit import serving, until

from poise.contracts import Completion, Generate
from poise.contracts.generate import ChatMessage
from poise.rpc.client import CallOptions
from poise.settings import MeshSettings
from poise.worker.context import Context
from poise.worker.runtime import WorkerRuntime
from poise.worker.tier import Tier

pytestmark = pytest.mark.integration

GENERATE = Generate(messages=(ChatMessage(role="user", content="x"),))
EVERY = 0.01
"""Seconds between two calls."""


class SteadyCalls:
    """Calls at a steady rate, and the time of each answer."""

    def __init__(self, mesh: WorkerRuntime) -> None:
        self._mesh = mesh
        self._calls: list[asyncio.Task[None]] = []
        self._caller = asyncio.create_task(self._run())
        self.answered: list[float] = []
        self.slowest = 0.0

    async def _run(self) -> None:
        while True:
            self._calls.append(asyncio.create_task(self._call()))
            await asyncio.sleep(EVERY)

    async def _call(self) -> None:
        began = time.monotonic()
        await self._mesh.rpc.call(GENERATE, CallOptions(run=uuid4().hex, step="g"))
        self.answered.append(time.monotonic())
        self.slowest = max(self.slowest, time.monotonic() - began)

    async def end(self) -> list[BaseException]:
        """Stop calling, wait for all calls and return their errors."""
        self._caller.cancel()
        outcomes = await asyncio.gather(*self._calls, return_exceptions=True)
        return [outcome for outcome in outcomes if outcome is not None]

    @contextmanager
    def pause(self, what: str) -> Iterator[None]:
        """Print the longest time without an answer and the slowest call."""
        began, self.slowest = time.monotonic(), 0.0
        yield
        times = [began, *(at for at in self.answered if at > began), time.monotonic()]
        longest = max(later - earlier for earlier, later in pairwise(times))
        sys.stdout.write(f"{what}: no answer for {longest * 1_000:.0f} ms, a call took {self.slowest * 1_000:.0f} ms\n")


@pytest.mark.parametrize("named", [True, False], ids=["static members", "dynamic members"])
async def test_a_rolling_restart_causes_no_error(mesh_settings: MeshSettings, *, named: bool) -> None:
    async def write(_request: Generate, _context: Context) -> Completion:
        await asyncio.sleep(0.005)
        return Completion(text="x", model="m", backend="b", finish_reason="stop")

    def settings(number: int) -> MeshSettings:
        found = MeshSettings(broker=mesh_settings.broker, state_dir=mesh_settings.state_dir)
        return found.model_copy(update={"instance": f"rolling-{number}"}) if named else found

    tier = Tier("inference", {Generate: write})
    async with WorkerRuntime(MeshSettings(broker=mesh_settings.broker), tier="client") as client:
        workers = [AsyncExitStack() for _ in range(3)]
        for number, worker in enumerate(workers):
            await worker.enter_async_context(serving(settings(number), tier))
        load = SteadyCalls(client)
        await until(lambda: len(load.answered) > 100)
        for number, worker in enumerate(workers):
            with load.pause(f"worker {number} leaves"):
                await worker.aclose()
            with load.pause(f"worker {number} joins"):
                await worker.enter_async_context(serving(settings(number), tier))
                answered = len(load.answered)
                await until(lambda: len(load.answered) > answered + 100)  # noqa: B023 - awaited in this iteration
        errors = await load.end()
        for worker in workers:
            await worker.aclose()
    assert not errors
