"""The contestants: the same workflow in Poise, DBOS and Restate, and what is on disk when a step returns."""

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
from tests.benchmarks.steps.installations import Installations
from tests.benchmarks.steps.servers import Postgres, Restate, SyncedValkey, spent
from tests.benchmarks.worker_process import WorkerProcess

LONGEST: Final = 240.0
"""The timeout of one measurement in seconds."""

ABROAD: Final = {"PYTHONPATH": str(Path(__file__).parents[3])}
"""The import path of the other systems' workers: the modules of the benchmark, and no package of Poise."""

Begin = Callable[[int], Awaitable[object]]
"""Runs one workflow with that number of steps."""


class RunningContestant:
    """A contestant with its worker and servers running.

    Args:
        worker: The process that runs the workflows.
        servers: The servers whose CPU time counts for the steps.
        begin: Starts a workflow from outside; None = the worker starts them itself.
    """

    def __init__(self, worker: WorkerProcess, servers: tuple[ManagedProcess, ...], begin: Begin | None = None) -> None:
        self._worker = worker
        self._servers = servers
        self._begin = begin

    async def measure(self, workflows: int, steps: int) -> dict[str, Any]:
        """Run workflows concurrently, each with that number of steps.

        Returns:
            `took`: seconds of each step; `wall`: from the start of the first to the end of the last; `cpu` and
            `served`: CPU seconds of the worker and of the servers.
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
async def started(*arguments: str | Path, env: dict[str, str] | None = None) -> AsyncIterator[WorkerProcess]:
    """Run a worker, given by a Python, a module and its arguments; by default with the variables of other systems."""
    python, module, *rest = arguments
    command = [python, "-m", f"tests.benchmarks.steps.{module}", *rest]
    worker = await WorkerProcess.start(command, os.environ | (env or ABROAD))
    try:
        yield worker
    finally:
        await worker.stop()


def poise(*, synced: bool = False, spans: bool = True) -> "Open":
    """Return Poise: a tier as a user would write it."""

    @asynccontextmanager
    async def run(_installations: Installations, folder: Path) -> AsyncIterator[RunningContestant]:
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

                yield RunningContestant(worker, (cache, kafka), begin)

    return run


def dbos(form: str, database: Callable[[Installations, Path], Postgres | str]) -> "Open":
    """Return DBOS, with functions of one form: `plain` or `async`."""

    @asynccontextmanager
    async def run(installations: Installations, folder: Path) -> AsyncIterator[RunningContestant]:
        found = database(installations, folder)
        if isinstance(found, str):
            async with started(installations.python(), "dbos_worker", found, form) as worker:
                yield RunningContestant(worker, ())
            return
        async with found, started(installations.python(), "dbos_worker", found.url, form) as worker:
            yield RunningContestant(worker, (found,))

    return run


def sqlite(_installations: Installations, folder: Path) -> str:
    """Return the URL of a database file."""
    return f"sqlite:///{folder}/dbos.sqlite"


def postgres(installations: Installations, folder: Path) -> Postgres:
    """Return a Postgres server that syncs each commit."""
    return Postgres(installations.postgres(), folder / "postgres", synced=True)


def unsynced_postgres(installations: Installations, folder: Path) -> Postgres:
    """Return a Postgres server that acknowledges a commit before it is on disk."""
    return Postgres(installations.postgres(), folder / "postgres", synced=False)


def restate(*, synced: bool = True) -> "Open":
    """Return Restate, whose server calls the worker."""

    @asynccontextmanager
    async def run(installations: Installations, folder: Path) -> AsyncIterator[RunningContestant]:
        port = str(probe.free_port())
        async with (
            Restate(installations.restate(), folder / "restate", synced=synced) as server,
            started(installations.python(), "restate_worker", port) as worker,
            httpx2.AsyncClient(timeout=LONGEST) as http,
        ):
            await server.register(f"http://{probe.LOOPBACK}:{port}")

            async def begin(steps: int) -> None:
                answer = await http.post(f"{server.ingress}/bench/follow", json=steps)
                answer.raise_for_status()

            yield RunningContestant(worker, (server,), begin)

    return run


Open = Callable[[Installations, Path], AbstractAsyncContextManager[RunningContestant]]
"""Starts a contestant with the data of its servers in its own folder."""


@dataclass(frozen=True, slots=True)
class Contestant:
    """A contestant: one row of the report."""

    name: str
    open: Open
    durability: str
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
        dbos("plain", unsynced_postgres),
        "`synchronous_commit=off`: all but the last 0.6 s (thrice `wal_writer_delay`).",
    ),
    Contestant(RESTATE, restate(), "Everything: Restate's default, its log's RocksDB syncs its own log."),
    Contestant(
        RESTATE_HASTY,
        restate(synced=False),
        "`log-server.rocksdb-disable-wal-fsync`: the operating system has it, which writes when it likes.",
    ),
)
