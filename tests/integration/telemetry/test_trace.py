"""A run's spans go through a real Kafka, and `poise trace` finds them there."""

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
            raise TerminalError("no words")
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


async def test_every_span_of_a_run_is_found_in_its_place(mesh: WorkerRuntime) -> None:
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


async def test_a_fault_shows_where_it_arose(mesh: WorkerRuntime) -> None:
    run = new_run_id(time.time(), SystemRandom())
    with pytest.raises(FaultError), span(semconv.ASK, attributes={semconv.RUN: run}):
        await mesh.rpc.call(
            Generate(messages=(ChatMessage(role="user", content="fail"),)), CallOptions(run=run, step="generate")
        )

    failed = [
        one for one in (await RunLog(mesh.logs, mesh.settings.clock_skew).trace(run)).spans if one.status == "error"
    ]
    assert {one.name for one in failed} >= {"ask", "call generate", "chat echo"}


@dataclass
class Ended:
    code: int | None
    out: str
    err: str


async def poise(*arguments: str) -> Ended:
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
    return Ended(process.returncode, out.decode(), err.decode())


async def test_the_command_shows_it_to_people_and_machines(mesh: WorkerRuntime) -> None:
    run = await ask(mesh)

    people = await poise("trace", run, "--broker", mesh.settings.broker)
    assert people.code == 0, people.err
    assert "└ chat echo" in people.out

    machines = await poise("trace", run, "--broker", mesh.settings.broker, "--json")
    assert machines.code == 0, machines.err
    said = json.loads(machines.out)
    assert said["run_id"] == run
    assert said["spans"][0]["name"] == "ask"
    assert (
        0 < sum([*said["tiers_ms"].values(), *said["queues_ms"].values(), said["transit_ms"]]) <= said["total_ms"] + 1
    )


@pytest.mark.parametrize("run", ["0199aaaa-0000-7000-8000-000000000000", "no-such-run"])
async def test_an_unknown_run_is_one_clear_line(mesh: WorkerRuntime, run: str) -> None:
    ended = await poise("trace", run, "--broker", mesh.settings.broker)

    assert ended.code == 1
    assert ended.out == ""
    assert len(ended.err.splitlines()) == 1
    assert f"no span of run {run} in poise.spans: check the id; spans are written within 200 ms" in ended.err
