"""A run that ends with a fault has a run record with it, which other gateways can read."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from random import Random

import pytest
from integration_kit import serving

from poise.contracts import Answer, Ask, RunRecord
from poise.contracts.run_id import new_run_id
from poise.errors import PoiseError, TerminalError
from poise.rpc.client import CallOptions
from poise.settings import MeshSettings
from poise.worker.context import Context
from poise.worker.runtime import WorkerRuntime
from poise.worker.tier import Tier
from poise_services.gateway.runs import RunEndpoints, RunView
from poise_services.gateway.settings import GatewaySettings
from poise_services.gateway.write_limits import WriteRateLimiter
from poise_services.orchestration import run_record

pytestmark = pytest.mark.integration

WITHIN = 20.0


async def wait_for_record(runs: RunEndpoints, run: str) -> RunView:
    """Wait until another gateway shows the run record; return it."""
    async with asyncio.timeout(WITHIN):
        while (view := await runs._view(run)) is None:  # noqa: ASYNC110 - the record arrives in the log
            await asyncio.sleep(0.05)
    return view


async def hang(_ask: Ask, _context: Context) -> Answer:
    return await asyncio.Future()


async def fail(_ask: Ask, _context: Context) -> Answer:
    raise TerminalError("there is nothing to be done")


def run_endpoints(mesh: WorkerRuntime) -> RunEndpoints:
    settings = GatewaySettings()
    return RunEndpoints(mesh, settings, WriteRateLimiter(settings.limits))


@pytest.mark.parametrize(("handler", "outcome"), [(hang, "deadline-exceeded"), (fail, "failed")])
async def test_a_fault_is_recorded(
    mesh_settings: MeshSettings, handler: Callable[[Ask, Context], Awaitable[Answer]], outcome: str
) -> None:
    run = new_run_id(time.time(), Random())
    tier = Tier("orchestration", {Ask: handler}, on_fault=run_record.publish_fault)
    async with serving(mesh_settings, tier), WorkerRuntime(mesh_settings, tier="gateway") as mesh:
        with pytest.raises(PoiseError):
            await mesh.rpc.call(Ask(question="Why?"), CallOptions(run=run, step="ask", deadline=time.time() + 1))
        view = await wait_for_record(run_endpoints(mesh), run)
    assert (view.status, view.outcome) == ("finished", outcome)
    record = view.record
    assert isinstance(record, RunRecord)
    assert (record.question, record.answer, record.draw, record.fault) == ("Why?", None, None, view.fault)


async def test_a_cancelled_run_is_recorded(mesh_settings: MeshSettings) -> None:
    run, began = new_run_id(time.time(), Random()), asyncio.Event()

    async def begin(ask: Ask, context: Context) -> Answer:
        began.set()
        return await hang(ask, context)

    tier = Tier("orchestration", {Ask: begin}, on_fault=run_record.publish_fault)
    async with serving(mesh_settings, tier), WorkerRuntime(mesh_settings, tier="gateway") as mesh:
        asking = asyncio.create_task(mesh.rpc.call(Ask(question="Why?"), CallOptions(run=run, step="ask")))
        await began.wait()
        await mesh.rpc.cancel(run)
        with pytest.raises(PoiseError):
            await asking
        assert (await wait_for_record(run_endpoints(mesh), run)).outcome == "cancelled"
