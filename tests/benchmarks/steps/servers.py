"""The servers that store a journal: Valkey, Postgres and Restate, with default or other fsync settings."""

import asyncio
import contextlib
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Final

import httpx2

from poise.errors import SetupError
from poise.stack import probe
from poise.stack.managed_process import ManagedProcess
from poise.stack.valkey import Valkey
from tests.benchmarks.startup import cpu

NOBODY: Final = 65_534
"""The user id of Postgres if the benchmark runs as root, which Postgres refuses."""


class SyncedValkey(Valkey):
    """Valkey that acknowledges a write when it is on disk; that of `poise up` syncs once a second."""

    async def _command(self) -> list[str]:
        return [*await super()._command(), "--appendfsync", "always"]


class Postgres(ManagedProcess):
    """Postgres with its default settings.

    Args:
        programs: The folder of its programs.
        directory: The folder of its data.
        synced: False: a commit is acknowledged before it is on disk (`synchronous_commit=off`).
    """

    start_timeout: ClassVar[float] = 30.0
    stop_grace: ClassVar[float] = 10.0

    def __init__(self, programs: Path, directory: Path, *, synced: bool) -> None:
        super().__init__("postgres", "Postgres", directory, log=directory.with_suffix(".log"))  # initdb wants it empty
        self._programs = programs
        self._synced = synced
        self._as = _as_nobody() if os.geteuid() == 0 else []

    @property
    def url(self) -> str:
        """Return the SQLAlchemy URL of the database."""
        return f"postgresql+psycopg://postgres@{self.address}/postgres"

    async def _command(self) -> list[str]:
        if self._as:
            os.chown(self.directory, NOBODY, NOBODY)
        initdb = [*self._as, str(self._programs / "initdb"), "-D", ".", "-U", "postgres", "--auth=trust"]
        await asyncio.to_thread(completed, initdb, self.directory)
        options = {"listen_addresses": probe.LOOPBACK, "port": str(self.port), "unix_socket_directories": ""}
        if not self._synced:
            options["synchronous_commit"] = "off"
        words = (word for name, value in options.items() for word in ("-c", f"{name}={value}"))
        return [*self._as, str(self._programs / "postgres"), "-D", ".", *words]

    async def _answers(self) -> object:
        ready = [str(self._programs / "pg_isready"), "-q", "-h", probe.LOOPBACK, "-p", str(self.port)]
        process = await asyncio.create_subprocess_exec(*ready)
        return await process.wait() == 0


def _as_nobody() -> list[str]:
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise SetupError("Postgres does not run as root, and there is no setpriv to be somebody else: be another user")
    return [setpriv, f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--pdeathsig=KILL"]


class Restate(ManagedProcess):
    """Restate's server: one node with its default settings.

    Args:
        program: The path of its program.
        directory: The folder of its data.
        synced: False: its log is written without fsync.
    """

    start_timeout: ClassVar[float] = 60.0
    stop_grace: ClassVar[float] = 10.0

    def __init__(self, program: Path, directory: Path, *, synced: bool) -> None:
        super().__init__("restate", "Restate", directory)
        self._program = program
        self._synced = synced
        self._ingress = probe.free_port()
        self._node = probe.free_port(self._ingress)

    async def register(self, url: str) -> None:
        """Register a worker."""
        async with httpx2.AsyncClient() as http:
            answer = await http.post(f"http://{self.address}/deployments", json={"uri": url}, timeout=30.0)
            answer.raise_for_status()

    @property
    def ingress(self) -> str:
        """Return the URL at which its services are called."""
        return f"http://{probe.LOOPBACK}:{self._ingress}"

    async def _command(self) -> list[str]:
        return [str(self._program), "--base-dir", ".", "--no-logo", "--listen-mode", "tcp"]

    async def _answers(self) -> object:
        return await probe.http_status(f"http://{self.address}/health") == 200 and await self._has_partitions()

    async def _has_partitions(self) -> bool:
        return await probe.http_status(f"{self.ingress}/restate/health") == 200

    def _environment(self) -> Mapping[str, str]:
        at = probe.LOOPBACK
        fsync = {} if self._synced else {"RESTATE_LOG_SERVER__ROCKSDB_DISABLE_WAL_FSYNC": "true"}
        return os.environ | fsync | {
            "RESTATE_ADMIN__BIND_ADDRESS": f"{at}:{self.port}",
            "RESTATE_INGRESS__BIND_ADDRESS": f"{at}:{self._ingress}",
            "RESTATE_BIND_ADDRESS": f"{at}:{self._node}",
            "RESTATE_NODE_NAME": "bench",
            "RESTATE_DISABLE_TELEMETRY": "true",
        }  # fmt: skip


def completed(command: Sequence[str], directory: Path) -> None:
    """Run a command to its end.

    Raises:
        SetupError: The command failed; with its last lines of output.
    """
    done = subprocess.run(
        command,
        cwd=directory,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    if done.returncode:
        last = done.stdout.strip().splitlines()[-3:]
        raise SetupError(f"{' '.join(command[:4])} … failed: {' '.join(last) or 'it said nothing'}")


def spent(*parts: ManagedProcess) -> float:
    """Return the CPU seconds of servers and their child processes."""
    return sum(cpu(pid) or 0.0 for part in parts for pid in _family(part.child.pid))


def _family(pid: int) -> list[int]:
    found = [pid]
    with contextlib.suppress(FileNotFoundError):  # it has just ended, or there is no /proc
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        found += [each for child in children for each in _family(int(child))]
    return found
