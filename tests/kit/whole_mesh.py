"""A whole mesh: real workers of every tier, a real model, and clients of each kind."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import httpx2
from integration_kit import PlainKafkaClient

from poise.client import Poise
from poise.contracts import Answer
from poise.kafka.record import Record
from poise.settings import MeshSettings
from poise.stack.options import Ports, StackOptions
from poise.stack.stack import Stack
from poise.stack.state import PartState, running_stack

WITHIN: Final = 60.0
"""Seconds within which anything happens, including the restart of a worker."""

FoundT = TypeVar("FoundT")


async def eventually(look: Callable[[], Awaitable[FoundT | None]]) -> FoundT:
    """Poll until something in another process has happened, and return it."""
    async with asyncio.timeout(WITHIN):
        while (found := await look()) is None:  # noqa: ASYNC110 - another process has no event
            await asyncio.sleep(0.1)
    return found


@dataclass(frozen=True)
class WholeMesh:
    """A running stack and its clients."""

    stack: Stack
    http: httpx2.AsyncClient
    poise: Poise
    plain_client: PlainKafkaClient
    """It does not use Poise's library."""

    # -- queries --------------------------------------------------------------------------------------------------

    async def ask_by_kafka(self, question: str, **headers: str) -> tuple[Record, Record]:
        """Publish a question as any Kafka client can, without the cache; return the sent record and its reply."""
        deadline = str(round((time.time() + WITHIN) * 1_000))
        body = json.dumps({"question": question, "cache": "no-store"}).encode()
        sent = await self.plain_client.send("poise.ask.interactive", body, None, poise_deadline=deadline, **headers)
        return sent, await self.plain_client.reply(sent, within=WITHIN)

    async def ask_by_http(self, question: str, *, cache: str | None = "no-store", **headers: str) -> Answer:
        """Ask the gateway; by default without the cache."""
        response = await self.http.post("/v1/ask", json={"question": question, "cache": cache}, headers=headers)
        assert response.status_code == 200, response.text
        return Answer.parse(response.content, strict=True)

    async def command(self, *arguments: str) -> str:
        """Run a `poise` command as a person does; return its output."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "poise", *arguments),
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "POISE_BROKER": self.stack.broker},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(WITHIN):
            out, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        return out.decode()

    # -- killing --------------------------------------------------------------------------------------------------

    def worker(self, name: str) -> PartState:
        """Return the entry of a worker in the stack's state file."""
        state = running_stack(self.stack.options.directory)
        assert state is not None
        return next(part for part in state.parts if part.name == name)

    def kill(self, name: str) -> PartState:
        """Kill a worker as an out-of-memory killer does; return its last state."""
        was = self.worker(name)
        assert was.pid is not None
        os.kill(was.pid, signal.SIGKILL)
        return was

    async def replaced(self, was: PartState) -> PartState:
        """Wait until a killed worker serves again, and return its state."""

        async def look() -> PartState | None:
            now = self.worker(was.name)
            return now if now.restarts > was.restarts and now.pid is not None else None

        return await eventually(look)


@asynccontextmanager
async def whole_mesh(directory: Path, workers: dict[str, int]) -> AsyncIterator[WholeMesh]:
    """Run a stack and its clients during the block."""
    async with Stack(StackOptions(directory, workers, ports=Ports(gateway=0))) as stack:
        plain_client = PlainKafkaClient(stack.broker)
        await plain_client.start()
        try:
            async with (
                httpx2.AsyncClient(base_url=stack.gateway_url or "", timeout=WITHIN) as http,
                Poise(settings=MeshSettings(broker=stack.broker)) as poise,
            ):
                yield WholeMesh(stack, http, poise, plain_client)
        finally:
            await plain_client.stop()
