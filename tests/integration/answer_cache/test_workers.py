"""The answer cache when workers are killed, and when the log of versions cannot be read."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Never

import httpx2
import pytest
from cache_kit import CorpusClient, FirstSentenceModel, cache_settings, cached_mesh, orchestrating
from integration_kit import settings_for_another_process

from poise.contracts import Answer
from poise.kafka.end_offsets import EndOffsets
from poise.redis.answer_store import AnswerStoreAdmin
from poise.settings import MeshSettings
from poise.stack.probe import free_port
from poise_services.orchestration.document_versions import DocumentVersions

pytestmark = pytest.mark.integration


@asynccontextmanager
async def process(settings: MeshSettings, folder: Path) -> AsyncIterator[Process]:
    """Run an orchestration worker as a process; kill it at the end."""
    port = free_port()
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "POISE_BROKER": settings.broker,
        "POISE_REDIS_URL": settings.redis_url or "",
        "POISE_STATE_DIR": str(folder),
        "POISE_ADMIN_PORT": str(port),
        "POISE_LEASE_TTL": "1",
        "POISE_ORCHESTRATION_TOP_K": "1",
    }
    arguments = (sys.executable, "-m", "poise_services.orchestration")
    worker = await asyncio.create_subprocess_exec(*arguments, env=environment)
    try:
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http, asyncio.timeout(60):
            while not await ready(http):
                assert worker.returncode is None
                await asyncio.sleep(0.1)
        yield worker
    finally:
        if worker.returncode is None:
            worker.kill()
        await worker.wait()


async def ready(http: httpx2.AsyncClient) -> bool:
    try:
        return (await http.get("/readyz")).status_code == 200
    except httpx2.TransportError:
        return False


async def test_asks_waiting_for_a_killed_worker_are_answered_by_another(
    mesh_settings: MeshSettings, name: str, tmp_path: Path
) -> None:
    """Kill the worker that leads: an ask that waits in the other worker takes over when the lease expires."""
    model = FirstSentenceModel()
    short = mesh_settings.model_copy(update={"lease_ttl": 1.0})
    async with cached_mesh(short, model, workers=0) as client:
        await client.put(name, f"The lamp of {name} was lit by the keeper Ada Quill.")
        model.release.clear()
        question = f"Who lit the lamp of {name}?"
        async with process(mesh_settings, tmp_path) as leads:
            asks = [asyncio.create_task(client.ask(question, within=60))]
            await model.begun.wait()
            async with orchestrating(settings_for_another_process(short), cache_settings()):
                asks += [asyncio.create_task(client.ask(question, within=60)) for _ in range(20)]
                leads.send_signal(signal.SIGKILL)
                await leads.wait()
                model.release.set()
                answers = await asyncio.gather(*asks)
                counts = await AnswerStoreAdmin(client.mesh.redis).stats(client.tenant)
    assert {answer.rung for answer in answers} == {"primary"}
    assert len(model.prompts) <= 2
    assert counts.entries == 1


async def test_while_changes_are_unknown_no_cached_answer_is_sent_unmarked(
    mesh_settings: MeshSettings, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = FirstSentenceModel()
    async with cached_mesh(mesh_settings, model) as client:
        await client.put(name, f"The lamp of {name} was lit by the keeper Ada Quill.")
        await ask(client, name)
        assert (await ask(client, name)).cached

        async def unknown(_: DocumentVersions, __: float) -> bool:
            return False

        with monkeypatch.context() as broken:
            broken.setattr(DocumentVersions, "sync", unknown)
            assert not (await ask(client, name)).cached
            model.unavailable = True
            answer = await ask(client, name)
            assert (answer.rung, answer.cached) == ("stale", True)
            assert "cannot be determined" in (answer.reason or "")
        model.unavailable = False
        assert (await ask(client, name)).cached


async def test_a_hanging_log_costs_no_answer(
    mesh_settings: MeshSettings, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with cached_mesh(mesh_settings, FirstSentenceModel()) as client:
        await client.put(name, f"The lamp of {name} was lit by the keeper Ada Quill.")
        await ask(client, name)

        async def hang(_: EndOffsets) -> Never:
            await asyncio.Event().wait()
            raise AssertionError("nothing wakes it")

        with monkeypatch.context() as broken:
            broken.setattr(EndOffsets, "fetch", hang)
            answer = await ask(client, name)
    assert (answer.rung, answer.cached) == ("primary", False)


async def ask(client: CorpusClient, name: str) -> Answer:
    return await client.ask(f"Who lit the lamp of {name}?", within=8)
