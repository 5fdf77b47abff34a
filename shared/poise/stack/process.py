"""Child processes: each has its own log file, is stopped with a grace period, and ends when its parent ends."""

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from poise.system.private_directory import make_private_directory
from poise.text.log_lines import escape_control

MAX_LOG_BYTES: Final = 8 * 1024 * 1024
"""The size in bytes above which a log is rotated to `….1` when its process starts again."""

_TAIL_BYTES: Final = 16_384
_PR_SET_PDEATHSIG: Final = 1
_LIBC: Final = ctypes.CDLL(None) if sys.platform == "linux" else None


def _die_with(parent: int) -> Callable[[], None]:
    """Return what the child runs before exec, so that the kernel kills it when the parent's main thread ends."""

    def prepare() -> None:
        assert _LIBC is not None  # noqa: S101 - for the type checker; see `ChildProcess.start`
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # the parent died between fork and prctl: the signal will not arrive
            os._exit(1)

    return prepare


class ChildProcess:
    """One child process.

    It leads its own process group, so that a Ctrl-C on the terminal reaches only the parent, which stops its children
    in order. When the parent ends for any reason, the kernel kills the child (Linux); on other systems the child runs
    under `poise.stack.parent_death_watch`, which does the same by watching a pipe.

    It must be started from the parent's main thread: the death signal is bound to the thread that forks.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.name = name
        self.command = [str(part) for part in command]
        self.log = log
        self._env = dict(env) if env is not None else None
        self._cwd = cwd
        self._begins = 0
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it; its output is appended to the log."""
        make_private_directory(self.log.parent)
        if self.log.exists() and self.log.stat().st_size > MAX_LOG_BYTES:
            self.log.replace(self.log.with_name(self.log.name + ".1"))
        tied = sys.platform == "linux"
        command = self.command if tied else [sys.executable, "-m", "poise.stack.parent_death_watch", *self.command]
        with self.log.open("ab") as log:
            self._begins = log.tell()
            self._process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL if tied else asyncio.subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=self._env,
                cwd=self._cwd,
                start_new_session=True,
                preexec_fn=_die_with(os.getpid()) if tied else None,
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._running().pid

    @property
    def returncode(self) -> int | None:
        """Its exit code, -N for signal N; None while it runs."""
        return self._running().returncode

    @property
    def alive(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.returncode is None

    async def wait(self) -> int:
        """Wait for its end.

        Returns:
            Its exit code, -N for signal N.
        """
        return await self._running().wait()

    async def stop(self, grace: float) -> None:
        """Send SIGTERM, and after `grace` seconds kill its process group."""
        if not self.alive:
            return
        process = self._running()
        with contextlib.suppress(ProcessLookupError):  # it has just ended by itself
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), grace)
        except TimeoutError:
            self.kill()
            await process.wait()

    def kill(self) -> None:
        """Kill its process group."""
        with contextlib.suppress(ProcessLookupError):  # it has just ended by itself
            os.killpg(self._running().pid, signal.SIGKILL)

    def tail(self, lines: int = 5) -> list[str]:
        """Return the last non-empty log lines since its start, without control characters."""
        with self.log.open("rb") as file:
            file.seek(max(self._begins, self.log.stat().st_size - _TAIL_BYTES))
            text = file.read().decode(errors="replace")
        return [escape_control(line) for line in text.splitlines() if line.strip()][-lines:]

    def _running(self) -> asyncio.subprocess.Process:
        if self._process is None:
            raise RuntimeError(f"{self.name} was not started")
        return self._process
