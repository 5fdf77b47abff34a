"""Runs the gateway as a separate process."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2

from poise.stack.probe import free_port

ROOT = Path(__file__).parents[2]
START_TIMEOUT = 30.0

RunningGateway = tuple[asyncio.subprocess.Process, httpx2.AsyncClient]


async def start_gateway(broker: str, port: int, **settings: str) -> asyncio.subprocess.Process:
    """Start a gateway; its stderr is a pipe for the test to read."""
    environment = {
        **os.environ,
        "PYTHONPATH": f"{ROOT / 'shared'}{os.pathsep}{ROOT}",
        "POISE_BROKER": broker,
        "POISE_GATEWAY_PORT": str(port),
        **settings,
    }
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "poise_services.gateway", env=environment, stderr=asyncio.subprocess.PIPE
    )


@asynccontextmanager
async def running_gateway(broker: str, **settings: str) -> AsyncIterator[RunningGateway]:
    """Yield a serving gateway and a client; kill the process if it still runs at the end."""
    port = free_port()
    process = await start_gateway(broker, port, **settings)
    assert process.stderr is not None
    try:
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            async with asyncio.timeout(START_TIMEOUT):
                while b"serving http" not in (line := await process.stderr.readline()):
                    assert line, "the gateway ended before it served"
            yield process, client
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
