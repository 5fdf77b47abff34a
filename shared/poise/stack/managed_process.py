"""Managed process: a server that the stack starts as a child process, waits for and stops."""

import asyncio
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Self

from poise.errors import SetupError
from poise.stack import environment, probe
from poise.stack.process import ChildProcess
from poise.system.private_directory import make_private_directory


class ManagedProcess(ABC):
    """One server on loopback that runs as a child process; `async with` starts and stops it.

    It keeps its port for the lifetime of this object, so it can be stopped and started again while clients use it.

    Args:
        name: Its name in the state file, in the name of its log, and after `--port-` in an option.
        title: Its name in messages.
        directory: Its data directory, used by nothing else.
        port: The port that it listens on; 0 = any free port.
        log: Its log file; None = `<name>.log` in the directory.
    """

    start_timeout: ClassVar[float]
    """Seconds within which it must become ready."""
    stop_grace: ClassVar[float]
    """Seconds that it has to end after SIGTERM; then it is killed."""

    def __init__(self, name: str, title: str, directory: Path, *, port: int = 0, log: Path | None = None) -> None:
        self.name = name
        self.title = title
        self.directory = directory
        self.port = port
        self.log = log or directory / f"{name}.log"
        self.since: float | None = None
        """When it began to serve, unix seconds."""
        self._child: ChildProcess | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def address(self) -> str:
        """Where it listens, `host:port`."""
        return f"{probe.LOOPBACK}:{self.port}"

    @property
    def child(self) -> ChildProcess:
        """Its process."""
        if self._child is None:
            raise RuntimeError(f"{self.title} was not started")
        return self._child

    async def start(self) -> None:
        """Start it, and return when it is ready.

        Raises:
            SetupError: It cannot be started; the message says why and where its log is.
        """
        if self._child is None:
            self.port = probe.choose_port(self.port, what=self.title, option=f"--port-{self.name}")
        make_private_directory(self.directory)
        self._child = ChildProcess(
            self.name, await self._command(), log=self.log, cwd=self._working_directory(), env=self._environment()
        )
        await self._child.start()
        try:
            await wait_until_ready(self._child, self._answers, timeout=self.start_timeout, title=self.title)
        except BaseException:
            await self._child.stop(0)
            raise
        self.since = time.time()

    async def stop(self) -> None:
        """Send SIGTERM, and kill it after `stop_grace`."""
        if self._child is not None:
            await self._child.stop(self.stop_grace)

    def kill(self) -> None:
        """Kill it, if it runs."""
        if self._child is not None and self._child.alive:
            self._child.kill()

    @abstractmethod
    async def _command(self) -> list[str]:
        """Prepare what it needs, and return the command to run."""

    @abstractmethod
    async def _answers(self) -> object:
        """Return a true value when it is ready; OSError means that it is not ready yet."""

    def _working_directory(self) -> Path | None:
        """Return its working directory; None = that of this process."""
        return self.directory

    def _environment(self) -> Mapping[str, str]:
        """Return its environment variables."""
        return environment.for_server(os.environ)


async def wait_until_ready(child: ChildProcess, answers: probe.Probe, *, timeout: float, title: str) -> None:  # noqa: ASYNC109
    """Wait until a child serves.

    Args:
        child: The process.
        answers: Returns a true value when it is ready.
        timeout: Seconds to wait at most.
        title: Its name in the message.

    Raises:
        SetupError: It ended, or was not ready in time; the message has the last line of its log.
    """
    ended = asyncio.ensure_future(child.wait())
    serving = asyncio.ensure_future(probe.poll_until_ready(answers))
    try:
        await asyncio.wait({ended, serving}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            serving.result()
            return
        how = f"ended with exit code {ended.result()}" if ended.done() else f"did not serve within {timeout:.0f} s"
    finally:
        ended.cancel()
        serving.cancel()
        await asyncio.gather(ended, serving, return_exceptions=True)  # does not suppress a cancellation of the caller
    last = child.tail(1)
    raise SetupError(f"{title} {how}: {last[0].strip() if last else 'its log is empty'} (log: {child.log})")
