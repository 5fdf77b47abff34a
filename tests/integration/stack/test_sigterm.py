"""SIGTERM ends a process at any moment of its start, also if it is process 1 of a container."""

import asyncio
import os
import shutil
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from integration_kit import WITHIN

from poise.settings import MeshSettings

pytestmark = pytest.mark.integration

ENDED = (0, 128 + signal.SIGTERM)
TIERS = ("gateway", "orchestration", "retrieval", "inference", "integration", "evaluation")
MOMENTS = (0.0, 0.3, 0.8, 1.6)
"""Seconds after the process handles the signal: while it imports, while it connects, while it serves."""

FILE = """
from poise.contracts import Ask
from poise import Tier
from poise.worker.tier_loader import serve
from poise.contracts.message import Message, Request

class Reply(Message):
    kind = "sigterm-reply/1"
class Call(Request[Reply]):
    kind = "sigterm-call/1"
    reply = Reply
async def handle(call, context):
    return Reply()
tier = Tier("sigterm", {Call: handle})
"""


@asynccontextmanager
async def started(command: Sequence[str], settings: MeshSettings, folder: Path) -> AsyncIterator[tuple[Process, int]]:
    """Start a process, as process 1 of a new PID namespace if possible; yield it and its pid in this namespace."""
    first = ("unshare", "--pid", "--fork", "--kill-child") if shutil.which("unshare") and os.geteuid() == 0 else ()
    environment = {
        **os.environ,
        "POISE_BROKER": settings.broker,
        "POISE_REDIS_URL": settings.redis_url or "",
        "POISE_STATE_DIR": str(folder),
        "POISE_GATEWAY_PORT": "0",
        "POISE_INFERENCE_BACKENDS": '{"default": {"url": "http://127.0.0.1:9", "model": "m"}}',
        "POISE_INTEGRATION_INTEGRATIONS": '{"nobody": {"url": "http://127.0.0.1:9"}}',
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    process = await asyncio.create_subprocess_exec(
        *first, sys.executable, "-m", *command, env=environment, stdin=DEVNULL, stdout=DEVNULL, stderr=PIPE
    )
    try:
        yield process, await until_sigterm_is_handled(process.pid, in_namespace=bool(first))
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def until_sigterm_is_handled(pid: int, *, in_namespace: bool) -> int:
    """Wait until the process has a handler for SIGTERM: until then the kernel ignores the signal for process 1."""
    async with asyncio.timeout(WITHIN):
        while True:
            found = first_child(pid) if in_namespace else pid
            if found and handles_sigterm(found):
                return found
            await asyncio.sleep(0.005)


def first_child(pid: int) -> int | None:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(children[0]) if children else None


def handles_sigterm(pid: int) -> bool:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (mask,) = [line.split()[1] for line in lines if line.startswith("SigCgt:")]
    return bool(int(mask, 16) >> (signal.SIGTERM - 1) & 1)


async def stop_at(moment: float, command: Sequence[str], settings: MeshSettings, folder: Path) -> None:
    async with started(command, settings, folder) as (process, pid):
        await asyncio.sleep(moment)
        os.kill(pid, signal.SIGTERM)
        _, stderr = await asyncio.wait_for(process.communicate(), WITHIN)
        assert process.returncode in ENDED, (command, moment, process.returncode, stderr.decode())
        assert b"Traceback" not in stderr, (command, moment, stderr.decode())


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("moment", MOMENTS)
async def test_sigterm_ends_a_starting_process(mesh_settings: MeshSettings, tmp_path: Path, moment: float) -> None:
    tier = tmp_path / "sigterm_tier.py"
    tier.write_text(FILE)
    up = ("poise", "up", "--dir", str(tmp_path / "up"), "--broker", mesh_settings.broker)
    commands = [
        *((f"poise_services.{name}",) for name in TIERS),
        ("poise", "worker", str(tier)),
        (*up, "--redis", mesh_settings.redis_url or "", "--workers", "inference=0,retrieval=0,evaluation=0"),
    ]
    stopping = [stop_at(moment, command, mesh_settings, tmp_path / "-".join(command[:2])) for command in commands]
    await asyncio.gather(*stopping)
