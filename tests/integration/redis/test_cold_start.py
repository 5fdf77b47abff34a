"""Workers that start without Redis: they serve without it, and use it when it becomes available."""

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import httpx2
import pytest
from chaos_kit import working
from chaos_load import ChaosWorker
from whole_mesh import eventually

from poise.client import Poise
from poise.contracts import Generate
from poise.contracts.generate import ChatMessage
from poise.settings import MeshSettings
from poise.stack.valkey import Valkey
from poise.stack.worker import Worker

pytestmark = pytest.mark.integration


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Valkey]:
    """Yield a stopped Valkey with a known address."""
    async with Valkey(tmp_path / "valkey") as server:
        await server.stop()
        yield server


@pytest.fixture
async def worker(kafka: str, server: Valkey, tmp_path: Path) -> AsyncIterator[ChaosWorker]:
    """Run a worker of the inference tier."""
    variables = {"POISE_BROKER": kafka, "POISE_REDIS_URL": server.url}
    log = tmp_path / "inference.log"
    worker = ChaosWorker("inference", 1, tmp_path / "inference", port=0, log=log, environment=variables)
    async with working([worker]):
        yield worker


async def cache_up(worker: Worker, expected: str) -> None:
    """Wait until a worker's gauge has a value."""

    async def look() -> str | None:
        async with httpx2.AsyncClient() as http:
            metrics = (await http.get(f"{worker.admin_url}/metrics")).text
        return expected if f"poise_redis_up {expected}" in metrics else None

    await eventually(look)


def handled(worker: ChaosWorker, question: str) -> int:
    """Return how often a step was handled."""
    return worker.handled.read_text().count(question)


async def test_a_worker_serves_without_redis_and_uses_it_when_it_is_available(
    kafka: str, server: Valkey, worker: ChaosWorker
) -> None:
    async with Poise(settings=MeshSettings(broker=kafka)) as client:

        async def twice() -> int:
            """Call a step twice; return how often it is handled."""
            name = uuid4().hex
            chat = Generate(messages=(ChatMessage(role="user", content=name),))
            for _ in range(2):
                assert (await client.call(chat, run=name, step="g", timeout=30)).text == name
            return handled(worker, name)

        assert await twice() == 2  # the first was not recorded
        await cache_up(worker, "0.0")
        await server.start()
        await cache_up(worker, "1.0")
        assert await twice() == 1
    (warning,) = [line for line in worker.log.read_text().splitlines() if "Redis is unavailable" in line]
    assert str(server.port) in warning
