"""A worker under test: a separate process that writes JSON lines. Uses only the standard library."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

WITHIN: Final = 60.0
"""Seconds to wait for a line."""


def say(event: str, **figures: Any) -> None:
    """Write one line of JSON for the runner."""
    sys.stdout.write(json.dumps({"event": event, **figures}) + "\n")
    sys.stdout.flush()


class WorkerProcess:
    """The process of a worker under test."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, command: Sequence[str | Path], env: Mapping[str, str] | None = None) -> Self:
        """Start the process and wait until it is ready."""
        process = await asyncio.create_subprocess_exec(
            *command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, limit=64 * 1024 * 1024, env=env
        )
        worker = cls(process)
        try:
            await worker._line("ready")
        except BaseException:
            await worker.stop()
            raise
        return worker

    async def report(self, *, within: float = WITHIN) -> dict[str, Any]:
        """Return the next report of the worker."""
        return await self._line("report", within)

    async def ask(self, what: str = "report", *, within: float = WITHIN) -> dict[str, Any]:
        """Send a line to the worker, by default the request for a report, and return its report."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{what}\n".encode())
        return await self.report(within=within)

    async def stop(self) -> None:
        """Stop the process; kill it after a timeout."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), 8.0)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    async def _line(self, event: str, within: float = WITHIN) -> dict[str, Any]:
        assert self._process.stdout is not None
        async with asyncio.timeout(within):
            while line := await self._process.stdout.readline():
                said: dict[str, Any] = json.loads(line)
                if said["event"] == event:
                    return said
        raise RuntimeError(f"a worker under test ended before its {event}: its error stands above")
