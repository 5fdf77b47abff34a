"""The workflow of docs/WORKFLOWS.md in a worker that is killed during a run, on a real Kafka and Valkey."""

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from integration_kit import serving, until

from poise import Poise
from poise.contracts import Answer, Ask, Completion, Generate, Passage, Passages, Retrieve
from poise.contracts.topics import INFERENCE_INTERACTIVE, RETRIEVAL_INTERACTIVE, RUNS_INTERACTIVE, Topic
from poise.errors import FaultError
from poise.rpc.client import CallOptions
from poise.settings import MeshSettings
from poise.stack import probe
from poise.stack.valkey import Valkey
from poise.worker.context import Context
from poise.worker.tier import Tier

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "WORKFLOWS.md"
WITHIN = 60.0
PASSAGES = tuple(
    Passage(id=f"d#{number}", source="A book", text=f"Text {number}.", score=1.0, age=1.0) for number in range(4)
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write the page's file unchanged; return its folder."""
    page = PAGE.read_text(encoding="utf-8")
    files = dict(re.findall(r"`(\w+\.py)`:\n\n```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL))
    assert list(files) == ["brief.py"]
    (tmp_path / "brief.py").write_text(files["brief.py"], encoding="utf-8")
    return tmp_path


class CountingTiers:
    """Retrieval and inference tiers that count their work, and block the third text until `proceed` is set."""

    def __init__(self) -> None:
        self.retrieved = 0
        self.written: list[str] = []
        self.proceed = asyncio.Event()

    async def retrieve(self, _request: Retrieve, _context: Context) -> Passages:
        self.retrieved += 1
        return Passages(passages=PASSAGES, epoch="e", mode="hybrid")

    async def generate(self, request: Generate, _context: Context) -> Completion:
        text = request.messages[0].content.partition("\n")[0]
        self.written.append(text)
        if text == "Text 2.":
            await self.proceed.wait()
        return Completion(text=f"It says: {text}", model="m", backend="default", finish_reason="stop")

    @asynccontextmanager
    async def run(self, settings: MeshSettings) -> AsyncIterator[None]:
        async with (
            serving(settings, Tier("retrieval", {Retrieve: self.retrieve})),
            serving(settings, Tier("inference", {Generate: self.generate})),
        ):
            yield


@asynccontextmanager
async def worker(settings: MeshSettings, folder: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run an orchestration worker as a process until it is ready, and stop it at the end."""
    port = probe.free_port()
    environment = os.environ | {
        "PYTHONPATH": f"{ROOT / 'shared'}:{ROOT}",
        "POISE_BROKER": settings.broker,
        "POISE_REDIS_URL": settings.redis_url or "",
        "POISE_LEASE_TTL": "1",
        "POISE_ADMIN_PORT": str(port),
        "POISE_ORCHESTRATION_WORKFLOWS": '["brief.py"]',
    }
    command = (sys.executable, "-m", "poise_services.orchestration")
    started = await asyncio.create_subprocess_exec(*command, cwd=folder, env=environment)

    async def ready() -> bool:
        assert started.returncode is None, "the worker ended before it was ready"
        return await probe.http_status(f"http://127.0.0.1:{port}/readyz") == 200

    try:
        async with asyncio.timeout(WITHIN):
            await probe.poll_until_ready(ready)
        yield started
    finally:
        if started.returncode is None:
            started.terminate()  # so that its finished messages are not redelivered to the next test's worker
        await started.wait()


async def ask(poise: Poise, run: str) -> Answer:
    """Ask as the gateway does."""
    return await poise.mesh.rpc.call(
        Ask(question="What?", workflow="brief"), CallOptions(run=run, step="ask", key=run, topic=RUNS_INTERACTIVE)
    )


async def requests(poise: Poise, topic: Topic, run: str) -> list[str]:
    """Return the requests to a tier in a run, repeated ones included."""
    records = await poise.mesh.logs.read_topic(topic.name)
    return [(record.value or b"").decode() for record in records if record.header("poise-run") == run]


async def test_finished_steps_of_a_killed_worker_are_not_repeated(mesh_settings: MeshSettings, folder: Path) -> None:
    tiers, run = CountingTiers(), uuid4().hex
    async with tiers.run(mesh_settings), Poise(mesh_settings.broker) as poise:
        async with worker(mesh_settings, folder) as first:
            asking = asyncio.ensure_future(ask(poise, run))
            await until(lambda: len(tiers.written) == 4)  # two are done, the third is blocked, the fourth may be done
            first.kill()
        async with worker(mesh_settings, folder):
            tiers.proceed.set()
            answer = await asyncio.wait_for(asking, WITHIN)
            assert answer.text.splitlines() == [f"- It says: Text {number}." for number in range(4)]
            assert len(await requests(poise, RETRIEVAL_INTERACTIVE, run)) == 1
            prompts = await requests(poise, INFERENCE_INTERACTIVE, run)
            times = [sum(f"Text {number}." in prompt for prompt in prompts) for number in range(4)]
            assert times[:3] == [1, 1, 2]  # the step in flight is requested again, and deduplicated by the tier
            with pytest.raises(FaultError, match=r"there is no workflow 'missing', only answer, brief"):
                await poise.ask("What?", workflow="missing")
    assert (tiers.retrieved, sorted(tiers.written)) == (1, [f"Text {number}." for number in range(4)])


async def test_a_run_starts_over_and_is_answered_when_redis_is_lost(mesh_settings: MeshSettings, folder: Path) -> None:
    tiers, run = CountingTiers(), uuid4().hex
    async with Valkey(folder / "valkey") as server:
        settings = mesh_settings.model_copy(update={"redis_url": server.url})
        async with tiers.run(settings), Poise(settings.broker) as poise:
            async with worker(settings, folder) as first:
                asking = asyncio.ensure_future(ask(poise, run))
                await until(lambda: len(tiers.written) == 4)
                await server.stop()
                first.kill()
            async with worker(settings, folder):
                tiers.proceed.set()
                answer = await asyncio.wait_for(asking, WITHIN)
        assert answer.text.splitlines() == [f"- It says: Text {number}." for number in range(4)]
        assert tiers.retrieved == 2
