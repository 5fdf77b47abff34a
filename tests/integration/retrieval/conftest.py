"""Retrieval workers in this process, on a real Kafka, with an embedder that tests can inspect and pause."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from uuid import uuid4

import pytest
import pytest_asyncio
from integration_kit import until
from retrieval_kit import RandomEmbedder, RetrievalClient, RetrievalWorker, StartWorker

from poise.executors.limited import LimitedExecutor
from poise.kafka import topic_setup
from poise.settings import MeshSettings
from poise.stack.kafka import Kafka
from poise.worker.runtime import WorkerRuntime
from poise.worker.tier import Tier
from poise_services.retrieval.embedding import Embedder
from poise_services.retrieval.handlers import handlers
from poise_services.retrieval.live_index import LiveIndex
from poise_services.retrieval.settings import RetrievalSettings


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def kafka(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """Run a separate Kafka, because these tests would find the documents of others."""
    async with Kafka(tmp_path_factory.mktemp("kafka")) as node:
        await topic_setup.apply(MeshSettings(broker=node.bootstrap))
        yield node.bootstrap


@asynccontextmanager
async def _following(
    settings: MeshSettings, folder: str = "0", embedder: Embedder | None = None
) -> AsyncIterator[RetrievalWorker]:
    own = MeshSettings(broker=settings.broker, redis_url=settings.redis_url, state_dir=settings.state_dir / folder)
    async with (
        WorkerRuntime(own, tier="retrieval") as mesh,
        LiveIndex(mesh, RetrievalSettings(), (embedder or RandomEmbedder).model) as live_index,
    ):
        yield RetrievalWorker(mesh, live_index)


@asynccontextmanager
async def _serving(
    settings: MeshSettings, folder: str = "0", embedder: Embedder | None = None
) -> AsyncIterator[RetrievalWorker]:
    async with _following(settings, folder, embedder) as worker, LimitedExecutor() as executor:
        tier = Tier(
            "retrieval", handlers(RetrievalSettings(), embedder or worker.embedder, worker.live_index, executor)
        )
        task = asyncio.create_task(worker.mesh.serve(tier))
        try:
            await until(lambda: task.done() or all(worker.mesh.readiness().values()))
            if task.done():
                await task
            yield worker
        finally:
            worker.mesh.stop.set()
            await task


@pytest.fixture
def following(mesh_settings: MeshSettings) -> StartWorker:
    """Return a function that starts a worker that reads the log and can publish, but serves no requests."""
    return partial(_following, mesh_settings)


@pytest.fixture
def serving(mesh_settings: MeshSettings) -> StartWorker:
    """Return a function that starts a whole worker and stops it as a signal does."""
    return partial(_serving, mesh_settings)


@pytest_asyncio.fixture
async def client(mesh_settings: MeshSettings) -> AsyncIterator[RetrievalClient]:
    async with AsyncExitStack() as stack:
        yield RetrievalClient(await stack.enter_async_context(WorkerRuntime(mesh_settings, tier="client")))


@pytest.fixture
def key() -> str:
    """Return a unique document id."""
    return f"doc-{uuid4().hex[:12]}"
