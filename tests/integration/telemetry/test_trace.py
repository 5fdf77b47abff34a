"""A run's spans are written to a real Kafka; `poise trace` reads them."""

import asyncio
import json
import os
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from dataclasses import dataclass
from random import SystemRandom

import pytest
from integration_kit import serving

from poise.contracts import Completion, Generate
from poise.contracts.generate import ChatMessage
from poise.contracts.run_id import new_run_id
from poise.errors import FaultError, TerminalError
from poise.rpc.client import CallOptions
from poise.run_log.lookup import RunLog
from poise.run_log.timeline import span_tree
from poise.settings import MeshSettings
from poise.telemetry import semconv, span
from poise.worker.context import Context
from poise.worker.runtime import WorkerRuntime
from poise.worker.tier import Tier

pytestmark = pytest.mark.integration


async def write(request: Generate, _context: Context) -> Completion:
    with span(semconv.chat_span("echo")):
        text = request.messages[-1].content
        if text == "fail":
            raise TerminalError("no answer")
    return Completion(text=text, model="echo", backend="echo", finish_reason="stop")


@pytest.fixture
async def mesh(mesh_settings: MeshSettings) -> AsyncIterator[WorkerRuntime]:
    async with serving(mesh_settings, Tier("inference", {Generate: write})) as mesh:
        yield mesh


async def ask(mesh: WorkerRuntime, text: str = "hello") -> str:
    run = new_run_id(time.time(), SystemRandom())
    with span(semconv.ASK, attributes={semconv.RUN: run}):
        await mesh.rpc.call(
            Generate(messages=(ChatMessage(role="user", content=text),)), CallOptions(run=run, step="generate")
        )
    return run


async def test_every_span_of_a_run_is_in_its_tree(mesh: WorkerRuntime) -> None:
    await ask(mesh)
    run = await ask(mesh)

    found = await RunLog(mesh.logs, mesh.settings.clock_skew).trace(run)
    (root,) = span_tree(found.spans)
    assert [node.span and node.span.name for node in root.walk()] == [
        "ask",
        "call generate",
        "process poise.inference.requests.interactive",
        "chat echo",
    ]
    assert {node.span.service for node in root.walk() if node.span} == {"poise-inference"}
    assert found.record is None


async def test_the_spans_of_a_failed_call_have_the_error_status(mesh: WorkerRuntime) -> None:
    run = new_run_id(time.time(), SystemRandom())
    with pytest.raises(FaultError), span(semconv.ASK, attributes={semconv.RUN: run}):
        await mesh.rpc.call(
            Generate(messages=(ChatMessage(role="user", content="fail"),)), CallOptions(run=run, step="generate")
        )

    failed = [
        found
        for found in (await RunLog(mesh.logs, mesh.settings.clock_skew).trace(run)).spans
        if found.status == "error"
    ]
    assert {found.name for found in failed} >= {"ask", "call generate", "chat echo"}


@dataclass
class Result:
    code: int | None
    out: str
    err: str


async def poise(*arguments: str) -> Result:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "from poise.cli.app import main; main()",
        *arguments,
        stdout=PIPE,
        stderr=PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    out, err = await process.communicate()
    return Result(process.returncode, out.decode(), err.decode())


async def test_trace_prints_a_tree_or_json(mesh: WorkerRuntime) -> None:
    run = await ask(mesh)

    shown = await poise("trace", run, "--broker", mesh.settings.broker)
    assert shown.code == 0, shown.err
    assert "└ chat echo" in shown.out

    printed = await poise("trace", run, "--broker", mesh.settings.broker, "--json")
    assert printed.code == 0, printed.err
    trace = json.loads(printed.out)
    assert trace["run_id"] == run
    assert trace["spans"][0]["name"] == "ask"
    assert (
        0
        < sum([*trace["tiers_ms"].values(), *trace["queues_ms"].values(), trace["transit_ms"]])
        <= trace["total_ms"] + 1
    )


@pytest.mark.parametrize("run", ["0199aaaa-0000-7000-8000-000000000000", "no-such-run"])
async def test_an_unknown_run_is_one_clear_line(mesh: WorkerRuntime, run: str) -> None:
    result = await poise("trace", run, "--broker", mesh.settings.broker)

    assert result.code == 1
    assert result.out == ""
    assert len(result.err.splitlines()) == 1
    assert f"no span of run {run} in poise.spans: check the id; spans are written within 200 ms" in result.err
