"""The gateway as a process: how it starts, how it ends, and what it says when it cannot start."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest
from integration_kit import serving

from poise.contracts import Answer, Ask
from poise.messaging import Context, Tier
from poise.settings import MeshSettings
from poise.stack.probe import free_port

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[3]
WITHIN = 30.0

Started = tuple[asyncio.subprocess.Process, httpx2.AsyncClient]


async def start(broker: str, port: int, **settings: str) -> asyncio.subprocess.Process:
    environment = {
        **os.environ,
        "PYTHONPATH": f"{ROOT / 'shared'}{os.pathsep}{ROOT}",
        "POISE_BROKER": broker,
        "POISE_GATEWAY_PORT": str(port),
        **settings,
    }
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.gateway", env=environment, stderr=asyncio.subprocess.PIPE
    )


@asynccontextmanager
async def started(broker: str, **settings: str) -> AsyncIterator[Started]:
    port = free_port()
    process = await start(broker, port, **settings)
    assert process.stderr is not None
    try:
        async with asyncio.timeout(WITHIN), httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            while b"serving http" not in (line := await process.stderr.readline()):
                assert line, "the gateway ended before it served"
            yield process, client
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def answer(_ask: Ask, context: Context) -> Answer:
    return Answer(run_id=context.run, text="Because.", rung="primary")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_finishes_what_is_begun_and_ends(mesh_settings: MeshSettings, number: signal.Signals) -> None:
    began, go_on = asyncio.Event(), asyncio.Event()

    async def wait(ask: Ask, context: Context) -> Answer:
        began.set()
        await go_on.wait()
        return await answer(ask, context)

    async with (
        serving(mesh_settings, Tier("orchestration", {Ask: wait})),
        started(mesh_settings.broker) as (process, client),
    ):
        asking = asyncio.create_task(client.post("/v1/ask", json={"question": "Why?"}, timeout=WITHIN))
        await began.wait()
        process.send_signal(number)
        await until_it_takes_no_more(client)
        go_on.set()
        assert (await asking).json()["text"] == "Because."
        assert await process.wait() == 0


async def until_it_takes_no_more(client: httpx2.AsyncClient) -> None:
    refused = False
    while not refused:
        try:
            await client.get("/healthz", headers={"connection": "close"})
        except httpx2.TransportError:
            refused = True


async def test_a_port_in_use_is_one_line(kafka: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        process = await start(kafka, taken.getsockname()[1])
        _, said = await asyncio.wait_for(process.communicate(), WITHIN)
    assert process.returncode == 1
    assert b"Traceback" not in said
    assert b"in use" in said.splitlines()[-1]
    assert b"POISE_GATEWAY_PORT" in said.splitlines()[-1]


async def test_no_broker_is_one_line() -> None:
    process = await start(f"127.0.0.1:{free_port()}", free_port())
    _, said = await asyncio.wait_for(process.communicate(), WITHIN)
    assert process.returncode == 1
    assert b"Traceback" not in said
    assert b"no Kafka broker answers" in said.splitlines()[-1]


async def test_a_setting_that_cannot_be_is_one_line() -> None:
    process = await start("127.0.0.1:1", free_port(), POISE_GATEWAY_PENDING="none")
    _, said = await asyncio.wait_for(process.communicate(), WITHIN)
    assert process.returncode == 1
    assert said.decode().startswith("poise: settings refused: POISE_GATEWAY_PENDING")
