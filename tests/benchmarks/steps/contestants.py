"""The contestants: the same workflow under Poise, DBOS and Restate, and what of a step is on disk when it returns."""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import SystemRandom
from typing import Any, Final

import httpx2

from poise.contracts.ask import Ask
from poise.contracts.run_id import new_run_id
from poise.kafka import topic_setup
from poise.rpc.client import CallOptions
from poise.settings import MeshSettings
from poise.stack import probe
from poise.stack.kafka import Kafka
from poise.stack.managed_process import ManagedProcess
from poise.stack.valkey import Valkey
from poise.worker.runtime import WorkerRuntime
from tests.benchmarks.steps.abroad import Abroad
from tests.benchmarks.steps.servers import Postgres, Restate, SyncedValkey, spent
from tests.benchmarks.subject import Worker

LONGEST: Final = 240.0
"""Seconds that one measurement may take."""

ABROAD: Final = {"PYTHONPATH": str(Path(__file__).parents[3])}
"""The benchmark's own modules, and none of our packages."""

Begin = Callable[[int], Awaitable[object]]
"""Has one workflow of so many steps done."""


class Subject:
    """A contestant at work.

    Args:
        worker: The process in which its workflows are.
        servers: Those that its steps cost something.
        begin: How a workflow comes to the worker; None = it begins them itself.
    """

    def __init__(self, worker: Worker, servers: tuple[ManagedProcess, ...], begin: Begin | None = None) -> None:
        self._worker = worker
        self._servers = servers
        self._begin = begin

    async def measure(self, workflows: int, steps: int) -> dict[str, Any]:
        """Have so many workflows of so many steps done at once.

        Returns:
            `took`: seconds of each step; `wall`: from the first one's begin to the last one's end; `cpu` and `served`:
            CPU seconds of the worker and of the servers.
        """
        before = spent(*self._servers)
        if self._begin is None:
            report = await self._worker.ask(f"{workflows} {steps}", within=LONGEST)
        else:
            async with asyncio.timeout(LONGEST):
                await asyncio.gather(*(self._begin(steps) for _ in range(workflows)))
            report = await self._worker.ask()
        return {**report, "served": spent(*self._servers) - before}


@asynccontextmanager
async def started(*arguments: str | Path, env: dict[str, str] | None = None) -> AsyncIterator[Worker]:
    """A worker: a Python, the module's name, its arguments; one of the others unless it is given variables."""
    python, module, *rest = arguments
    command = [python, "-m", f"tests.benchmarks.steps.{module}", *rest]
    worker = await Worker.start(command, os.environ | (env or ABROAD))
    try:
        yield worker
    finally:
        await worker.stop()


def poise(*, synced: bool = False, spans: bool = True) -> "Open":
    """A tier, as anyone would write it."""

    @asynccontextmanager
    async def run(_abroad: Abroad, folder: Path) -> AsyncIterator[Subject]:
        cache = (SyncedValkey if synced else Valkey)(folder / "valkey")
        async with Kafka(folder / "kafka") as kafka, cache:
            settings = MeshSettings(broker=kafka.bootstrap, spans=False)
            await topic_setup.apply(settings)
            env = {"POISE_BROKER": kafka.bootstrap, "POISE_REDIS_URL": cache.url, "POISE_SPANS": str(spans)}
            async with (
                started(sys.executable, "poise_worker", env=env) as worker,
                WorkerRuntime(settings, tier="bench") as mesh,
            ):

                async def begin(steps: int) -> None:
                    run = new_run_id(time.time(), SystemRandom())
                    await mesh.rpc.call(Ask(question=str(steps)), CallOptions(run=run, key=run))

                yield Subject(worker, (cache, kafka), begin)

    return run


def dbos(form: str, database: Callable[[Abroad, Path], Postgres | str]) -> "Open":
    """DBOS, its functions of one form: `plain` or `async`."""

    @asynccontextmanager
    async def run(abroad: Abroad, folder: Path) -> AsyncIterator[Subject]:
        found = database(abroad, folder)
        if isinstance(found, str):
            async with started(abroad.python(), "dbos_worker", found, form) as worker:
                yield Subject(worker, ())
            return
        async with found, started(abroad.python(), "dbos_worker", found.url, form) as worker:
            yield Subject(worker, (found,))

    return run


def sqlite(_abroad: Abroad, folder: Path) -> str:
    """A file."""
    return f"sqlite:///{folder}/dbos.sqlite"


def postgres(abroad: Abroad, folder: Path) -> Postgres:
    """A server."""
    return Postgres(abroad.postgres(), folder / "postgres", synced=True)


def hasty_postgres(abroad: Abroad, folder: Path) -> Postgres:
    """A server that answers before it has written."""
    return Postgres(abroad.postgres(), folder / "postgres", synced=False)


def restate(*, synced: bool = True) -> "Open":
    """Restate: its server calls the worker."""

    @asynccontextmanager
    async def run(abroad: Abroad, folder: Path) -> AsyncIterator[Subject]:
        port = str(probe.free_port())
        async with (
            Restate(abroad.restate(), folder / "restate", synced=synced) as server,
            started(abroad.python(), "restate_worker", port) as worker,
            httpx2.AsyncClient(timeout=LONGEST) as http,
        ):
            await server.register(f"http://{probe.LOOPBACK}:{port}")

            async def begin(steps: int) -> None:
                answer = await http.post(f"{server.ingress}/bench/follow", json=steps)
                answer.raise_for_status()

            yield Subject(worker, (server,), begin)

    return run


Open = Callable[[Abroad, Path], AbstractAsyncContextManager[Subject]]
"""Starts a contestant, with its servers' data in a folder of its own."""


@dataclass(frozen=True, slots=True)
class Contestant:
    """One row."""

    name: str
    open: Open
    kept: str
    """What is on disk when a step returns."""


OURS, OURS_BARE = "poise, fsync each second", "poise, fsync each second, no spans"
OURS_SYNCED: Final = "poise, fsync each step"
SQLITE, POSTGRES = "DBOS on SQLite, fsync each step", "DBOS on Postgres, fsync each step"
POSTGRES_ASYNC: Final = "DBOS on Postgres, async functions, fsync each step"
POSTGRES_HASTY: Final = "DBOS on Postgres, fsync within 0.6 s"
RESTATE, RESTATE_HASTY = "Restate, fsync each step", "Restate, no fsync"

CONTESTANTS: Final = (
    Contestant(OURS, poise(), "As `poise up` starts it: in Valkey's memory, and in its log within a second."),
    Contestant(OURS_BARE, poise(spans=False), "The same."),
    Contestant(OURS_SYNCED, poise(synced=True), "Everything: Valkey with `--appendfsync always`."),
    Contestant(SQLITE, dbos("plain", sqlite), "Everything: DBOS' default; rollback journal, `synchronous=FULL`."),
    Contestant(POSTGRES, dbos("plain", postgres), "Everything: Postgres' default, `synchronous_commit=on`."),
    Contestant(POSTGRES_ASYNC, dbos("async", postgres), "The same."),
    Contestant(
        POSTGRES_HASTY,
        dbos("plain", hasty_postgres),
        "`synchronous_commit=off`: all but the last 0.6 s (thrice `wal_writer_delay`).",
    ),
    Contestant(RESTATE, restate(), "Everything: Restate's default, its log's RocksDB syncs its own log."),
    Contestant(
        RESTATE_HASTY,
        restate(synced=False),
        "`log-server.rocksdb-disable-wal-fsync`: the operating system has it, which writes when it likes.",
    ),
)
