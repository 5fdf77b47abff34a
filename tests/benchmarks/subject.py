"""Subject: a worker under test, a process of its own that speaks in lines of JSON. Of the standard library alone."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

WITHIN: Final = 60.0
"""Seconds until a line has to come."""


def say(event: str, **figures: Any) -> None:
    """One line of JSON for the runner."""
    sys.stdout.write(json.dumps({"event": event, **figures}) + "\n")
    sys.stdout.flush()


class Worker:
    """One worker under test."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, command: Sequence[str | Path], env: Mapping[str, str] | None = None) -> Self:
        """Start it, and return when it is ready."""
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
        """Its next report."""
        return await self._line("report", within)

    async def ask(self, what: str = "report", *, within: float = WITHIN) -> dict[str, Any]:
        """A report of what it has done by now, or of what it is told to do."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{what}\n".encode())
        return await self.report(within=within)

    async def stop(self) -> None:
        """Stop it; by force after a while."""
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
