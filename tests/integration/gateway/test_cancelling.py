"""A disconnect, or a cancel by id, stops the run down to the connection to the model."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import httpx2
import pytest
from integration_kit import WITHIN, serving, until

from poise.contracts import Answer, Ask, ChatMessage, Generate
from poise.settings import MeshSettings
from poise.worker.context import Context
from poise.worker.runtime import WorkerRuntime
from poise.worker.tier import Tier
from poise_services.inference.backends import Backends
from poise_services.inference.handlers import handlers
from poise_services.inference.settings import InferenceSettings

pytestmark = pytest.mark.integration

Open = Callable[..., AbstractAsyncContextManager[tuple[httpx2.AsyncClient, WorkerRuntime]]]


async def generate(ask: Ask, context: Context) -> Answer:
    request = Generate(messages=(ChatMessage(role="user", content=ask.question),))
    reply = await context.call(request, step="generate")
    return Answer(run_id=context.run, text=reply.text, rung="primary")


class UnresponsiveModelServer:
    """A model server that never responds; signals a request, and the closing of its connection."""

    def __init__(self) -> None:
        self.requested = asyncio.Event()
        self.closed = asyncio.Event()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        self.requested.set()
        await reader.read()
        self.closed.set()
        writer.close()


@pytest.fixture
async def model(mesh_settings: MeshSettings) -> AsyncIterator[UnresponsiveModelServer]:
    """Start the model server and an inference worker."""
    model = UnresponsiveModelServer()
    async with _listening(model) as url:
        settings = InferenceSettings.model_validate({"backends": {"default": {"url": url, "model": "m"}}})
        own = mesh_settings.model_copy(update={"instance": f"{mesh_settings.instance}-inference"})
        async with Backends(settings) as backends, serving(own, Tier("inference", handlers(backends))):
            yield model


@asynccontextmanager
async def _listening(model: UnresponsiveModelServer) -> AsyncIterator[str]:
    server = await asyncio.start_server(model, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def test_a_disconnect_closes_the_connection_to_the_model(
    open_gateway: Open, model: UnresponsiveModelServer
) -> None:
    async with open_gateway(generate) as (client, _):
        asking = asyncio.create_task(client.post("/v1/ask", json={"question": "Why?"}))
        await asyncio.wait_for(model.requested.wait(), WITHIN)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await asyncio.wait_for(model.closed.wait(), WITHIN)


async def test_a_run_is_cancelled_by_its_id_and_its_client_receives_a_fault(
    open_gateway: Open, model: UnresponsiveModelServer
) -> None:
    runs: list[str] = []

    async def noted(ask: Ask, context: Context) -> Answer:
        runs.append(context.run)
        return await generate(ask, context)

    async with open_gateway(noted) as (client, _):
        asking = asyncio.create_task(client.post("/v1/ask", json={"question": "Why?"}))
        await asyncio.wait_for(model.requested.wait(), WITHIN)
        await until(lambda: len(runs) == 1)
        response = await client.delete(f"/v1/runs/{runs[0]}")
        assert (response.status_code, response.json()) == (202, {"run_id": runs[0]})
        response = await asking
        assert (response.status_code, response.json()["type"]) == (499, "urn:poise:cancelled")
        await asyncio.wait_for(model.closed.wait(), WITHIN)
