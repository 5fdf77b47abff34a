"""A worker process whose component hangs: `/readyz` names the component, then the process ends."""

import asyncio
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx2
import pytest
from integration_kit import settings_for_another_process
from slow_proxy import SlowProxy

from poise.contracts.topics import PASSAGES
from poise.kafka import topic_setup
from poise.settings import MeshSettings
from poise.stack import probe
from poise.stack.kafka import Kafka
from poise.worker.runtime import WorkerRuntime

pytestmark = pytest.mark.integration

KIT = Path(__file__).parents[2] / "kit"
WITHIN = 60.0
READER = f"reader of {PASSAGES.name}"
MODEL = "embedding model"


class ProbedWorker:
    """A worker process and its readiness."""

    def __init__(self, process: Process, port: int) -> None:
        self.process = process
        self._url = f"http://127.0.0.1:{port}/readyz"

    async def until_ready(self) -> None:
        """Wait until `/readyz` answers 200."""
        await self._until(lambda code, _checks: code == httpx2.codes.OK)

    async def until_check_fails(self, component: str) -> None:
        """Wait until `/readyz` answers 503 with a failed check of the component."""
        await self._until(
            lambda code, checks: code == httpx2.codes.SERVICE_UNAVAILABLE and checks.get(component) is False,
        )

    async def _until(self, holds: Callable[[int, dict[str, bool]], bool]) -> None:
        last: object = "none"
        try:
            async with httpx2.AsyncClient() as client, asyncio.timeout(WITHIN):
                while True:
                    assert self.process.returncode is None, f"the process ended; its last answer: {last}"
                    with suppress(httpx2.TransportError):  # it does not listen yet
                        answer = await client.get(self._url)
                        last = answer.text
                        if holds(answer.status_code, answer.json()["checks"]):
                            return
                    await asyncio.sleep(0.05)
        except TimeoutError as error:
            raise TimeoutError(f"the last answer: {last}") from error

    async def end(self) -> str:
        """Wait until the process ends by itself with exit code 1; return its stderr."""
        _, stderr = await asyncio.wait_for(self.process.communicate(), WITHIN)
        assert self.process.returncode == 1
        return stderr.decode()


@asynccontextmanager
async def started(tier: str, component: str, settings: MeshSettings, **extra: str) -> AsyncIterator[ProbedWorker]:
    """Start a worker process with short timeouts for one component; kill it if it has not ended by itself."""
    port = probe.free_port()
    environment = {
        **os.environ,
        "POISE_BROKER": settings.broker,
        "POISE_STATE_DIR": str(settings.state_dir),
        "POISE_ADMIN_PORT": str(port),
        "PYTHONPATH": os.pathsep.join(sys.path),
        **extra,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(KIT / "hasty_worker.py"), tier, component, env=environment, stdin=DEVNULL, stderr=PIPE
    )
    try:
        yield ProbedWorker(process, port)
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def test_a_hanging_reader_ends_the_process(mesh_settings: MeshSettings) -> None:
    """Let the reader hang in a thread, which cannot be interrupted: the process ends anyway."""
    async with started("retrieval", READER, mesh_settings) as worker:
        await worker.until_ready()
        async with WorkerRuntime(settings_for_another_process(mesh_settings), tier="client") as client:
            await client.producer.publish(PASSAGES, None, key="hang#0")
        await worker.until_check_fails(READER)
        stderr = await worker.end()
    assert f"{READER} made no progress for" in stderr
    assert f"{READER} has made no progress for" in stderr
    assert "the process did not end within 1 s, threads" in stderr


async def test_a_hanging_model_file_ends_the_process(mesh_settings: MeshSettings, tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    os.mkfifo(file)
    async with started("retrieval", MODEL, mesh_settings, POISE_RETRIEVAL_EMBEDDING_MODEL_FILE=str(file)) as worker:
        await worker.until_check_fails(MODEL)
        assert f"{MODEL} has made no progress for" in await worker.end()


async def test_a_cut_connection_to_kafka_does_not_end_the_process(tmp_path: Path) -> None:
    """Cut the connection: a restart would not help, and the process is ready again once it is restored."""
    port = probe.free_port()
    async with SlowProxy(port) as wire:
        advertised = {"advertised.listeners": f"PLAINTEXT://{wire.address}"}
        async with Kafka(tmp_path / "kafka", port=port, properties=advertised):
            settings = MeshSettings(broker=wire.address, state_dir=tmp_path)
            await topic_setup.apply(settings)
            backend = '{"default": {"url": "http://127.0.0.1:9", "model": "m"}}'
            async with started(
                "inference", "reader of poise.replies", settings, POISE_INFERENCE_BACKENDS=backend
            ) as worker:
                await worker.until_ready()
                wire.cut()
                await worker.until_check_fails("broker")
                wire.broken = False
                await worker.until_ready()
