"""A gateway on a real socket and a real Kafka, with a small tier that answers."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import httpx2
import pytest
from integration_kit import serving, until

from poise.contracts import Answer, Ask
from poise.ingestion.epoch_validator import EpochValidator
from poise.settings import MeshSettings
from poise.stack.probe import free_port
from poise.worker.context import Context
from poise.worker.runtime import WorkerRuntime
from poise.worker.tier import Tier
from poise_services.gateway.server import serve
from poise_services.gateway.settings import GatewaySettings

Handle = Callable[[Ask, Context], "asyncio.Future[Answer]"]
Open = Callable[..., AbstractAsyncContextManager[tuple[httpx2.AsyncClient, WorkerRuntime]]]


@pytest.fixture
def open_gateway(mesh_settings: MeshSettings) -> Open:
    """Start a gateway, and a tier that answers asks with a handler; yield a client and the mesh."""

    @asynccontextmanager
    async def opened(
        answer: Handle, concurrency: int | None = None, **settings: object
    ) -> AsyncIterator[tuple[httpx2.AsyncClient, WorkerRuntime]]:
        port = free_port()
        wanted = GatewaySettings.model_validate({"port": port, **settings})
        async with serving(mesh_settings, Tier("orchestration", {Ask: answer}, concurrency=concurrency)):
            own = mesh_settings.model_copy(update={"instance": f"{mesh_settings.instance}-gateway"})
            async with WorkerRuntime(own, tier="gateway") as mesh, EpochValidator(mesh.logs.access) as epochs:
                task = asyncio.create_task(serve(mesh, wanted, epochs))
                try:
                    await until(lambda: task.done() or all(mesh.readiness().values()))
                    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
                        yield client, mesh
                finally:
                    mesh.stop.set()
                    await task

    return opened
