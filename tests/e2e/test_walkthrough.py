"""docs/WALKTHROUGH.md names every module that an ask enters, and its steps are in the order in which an ask takes them.

An ask over HTTP is traced through the workers of a real mesh.
"""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio
from walkthrough import PAGE, STEPS, Reference, references
from whole_mesh import WITHIN, WholeMesh, whole_mesh

from poise.stack.state import running_stack
from poise_labs.cli.sample_corpus import corpus

pytestmark = pytest.mark.e2e

WORKERS: Final = {"gateway": 1, "orchestration": 1, "retrieval": 1, "inference": 1, "evaluation": 1}
TIERS: Final = ("gateway", "orchestration", "retrieval", "inference")
"""The tiers that an ask passes through before its reply; evaluation scores it afterwards."""
IDLE: Final = 4.0
"""Seconds for which an idle mesh is traced: its loops run every second or two."""
TRACE: Final = Path(__file__).parents[1] / "kit" / "call_trace"


@dataclass
class Trace:
    """The calls of a mesh: those of an idle one, and those while it answers an ask."""

    idle: set[Reference] = field(default_factory=set)
    asked: dict[Reference, float] = field(default_factory=dict)
    """The time of the first call in any worker, seconds."""

    @property
    def entered(self) -> dict[str, list[str]]:
        """Return by module the functions that the ask calls and an idle mesh does not."""
        found: dict[str, list[str]] = {}
        for module, function in sorted(self.asked.keys() - self.idle):
            found.setdefault(module, []).append(function)
        return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def trace(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Trace]:
    """Return the trace of one ask over HTTP."""
    folder = tmp_path_factory.mktemp("trace")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("CALL_TRACE", str(folder))
        patched.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(TRACE), os.environ.get("PYTHONPATH")])))
        async with whole_mesh(tmp_path_factory.mktemp("stack"), dict(WORKERS)) as mesh:
            yield await traced(mesh, folder)


async def traced(mesh: WholeMesh, folder: Path) -> Trace:
    """Trace an idle mesh, then an ask that is not in the cache."""
    whole = corpus()
    epoch = await mesh.poise.ingest({name: whole[name] for name in ("python/pass", "python/break", "python/yield")})
    await mesh.ask_by_http("What does the pass statement do?", **{"poise-min-epoch": epoch.encode()})
    pids = workers(mesh)
    await begin_phase(pids, folder, 1)
    await asyncio.sleep(IDLE)
    await begin_phase(pids, folder, 2)
    await mesh.ask_by_http("What does the break statement do?", cache=None)
    await begin_phase(pids, folder, 3)
    for pid in pids:
        os.kill(pid, signal.SIGUSR2)
    trace = Trace()
    for pid in pids:
        file = folder / f"{pid}.json"
        await until_exists(file)
        _, idle, asked, _ = json.loads(file.read_text(encoding="utf-8"))
        trace.idle |= {Reference(module, function) for module, function, _ in idle}
        for module, function, at in asked:
            reference = Reference(module, function)
            trace.asked[reference] = min(at, trace.asked.get(reference, at))
    return trace


def workers(mesh: WholeMesh) -> list[int]:
    """Return the processes of the tiers."""
    state = running_stack(mesh.stack.options.directory)
    assert state is not None
    return [part.pid for part in state.parts if part.pid is not None and part.name.partition("-")[0] in TIERS]


async def begin_phase(pids: list[int], folder: Path, number: int) -> None:
    """Begin a phase in every worker."""
    for pid in pids:
        os.kill(pid, signal.SIGUSR1)
    for pid in pids:
        await until_exists(folder / f"{pid}.{number}")


async def until_exists(file: Path) -> None:
    """Wait for a file that another process writes."""
    async with asyncio.timeout(WITHIN):
        while not file.exists():  # noqa: ASYNC110, ASYNC240 - another process writes it
            await asyncio.sleep(0.05)


async def test_the_page_names_every_module_that_an_ask_enters(trace: Trace) -> None:
    named = {reference.module for reference in references(PAGE)}
    missing = [f"{module}: {functions}" for module, functions in trace.entered.items() if module not in named]
    assert not missing, "\n".join(["", *missing, f"{len(trace.entered)} are entered"])


async def test_the_ask_calls_each_function_that_the_steps_name(trace: Trace) -> None:
    assert [reference for reference in references(STEPS) if reference not in trace.asked] == []


async def test_the_steps_are_in_the_order_of_the_first_calls(trace: Trace) -> None:
    """Check the order of the first calls; functions that an idle mesh calls too are not compared."""
    named = [step for step in dict.fromkeys(references(STEPS)) if step in trace.asked and step not in trace.idle]
    assert len(named) > 20
    late = [(earlier, later) for earlier, later in pairwise(named) if trace.asked[earlier] > trace.asked[later]]
    assert late == []
