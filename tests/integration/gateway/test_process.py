"""The gateway process: start, shutdown, and the errors when it cannot start."""

import asyncio
import signal
import socket

import httpx2
import pytest
from gateway_process import START_TIMEOUT, running_gateway, start_gateway
from integration_kit import serving

from poise.contracts import Answer, Ask
from poise.settings import MeshSettings
from poise.stack.probe import free_port
from poise.worker.context import Context
from poise.worker.tier import Tier

pytestmark = pytest.mark.integration


async def answer(_ask: Ask, context: Context) -> Answer:
    return Answer(run_id=context.run, text="Because.", rung="primary")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_sigterm_finishes_pending_asks_and_exits(mesh_settings: MeshSettings, number: signal.Signals) -> None:
    began, release = asyncio.Event(), asyncio.Event()

    async def wait(ask: Ask, context: Context) -> Answer:
        began.set()
        await release.wait()
        return await answer(ask, context)

    async with (
        serving(mesh_settings, Tier("orchestration", {Ask: wait})),
        running_gateway(mesh_settings.broker) as (process, client),
    ):
        asking = asyncio.create_task(client.post("/v1/ask", json={"question": "Why?"}, timeout=START_TIMEOUT))
        await began.wait()
        process.send_signal(number)
        await until_it_takes_no_more(client)
        release.set()
        assert (await asking).json()["text"] == "Because."
        assert await process.wait() == 0


async def until_it_takes_no_more(client: httpx2.AsyncClient) -> None:
    refused = False
    while not refused:
        try:
            await client.get("/healthz", headers={"connection": "close"})
        except httpx2.TransportError:
            refused = True


async def test_a_port_in_use_is_a_one_line_error(kafka: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        process = await start_gateway(kafka, taken.getsockname()[1])
        _, stderr = await asyncio.wait_for(process.communicate(), START_TIMEOUT)
    assert process.returncode == 1
    assert b"Traceback" not in stderr
    assert b"in use" in stderr.splitlines()[-1]
    assert b"POISE_GATEWAY_PORT" in stderr.splitlines()[-1]


async def test_no_broker_is_a_one_line_error() -> None:
    process = await start_gateway(f"127.0.0.1:{free_port()}", free_port())
    _, stderr = await asyncio.wait_for(process.communicate(), START_TIMEOUT)
    assert process.returncode == 1
    assert b"Traceback" not in stderr
    assert b"no Kafka broker answers" in stderr.splitlines()[-1]


async def test_an_invalid_setting_is_a_one_line_error() -> None:
    process = await start_gateway("127.0.0.1:1", free_port(), POISE_GATEWAY_MAX_PENDING="none")
    _, stderr = await asyncio.wait_for(process.communicate(), START_TIMEOUT)
    assert process.returncode == 1
    assert stderr.decode().startswith("poise: settings refused: POISE_GATEWAY_MAX_PENDING")
