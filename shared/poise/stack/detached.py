"""A detached stack: it runs in a process of its own session, which other processes start and stop."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from poise.errors import SetupError
from poise.stack.options import StackOptions
from poise.stack.state import StackState, is_running, make_directory, running_stack
from poise.system.private_directory import make_private_directory

STOP_TIMEOUT: Final = 120.0
"""Seconds that `stop_stack` waits: longer than the grace period of every part."""

_POLL_INTERVAL: Final = 0.05


class StackExitedError(SetupError):
    """A detached stack ended before it was ready; its output says why."""

    def __init__(self, directory: Path, returncode: int) -> None:
        super().__init__(f"the stack in {directory} ended before it was ready, with exit code {returncode}")
        self.returncode = returncode


def start_detached(options: StackOptions, *, on_output: Callable[[str], object]) -> StackState:
    """Start a stack in the background and wait until it is ready; an interrupt meanwhile stops it.

    Args:
        options: All but `environment` is passed on.
        on_output: Receives what the stack prints until it is ready, which is also written to `logs/stack.log`.

    Raises:
        SetupError: A stack already runs in the directory.
        StackExitedError: The stack ended before it was ready.
    """
    if (state := running_stack(options.directory)) is not None:
        raise SetupError(f"a stack already runs in {options.directory} (process {state.pid}): see `poise status`")
    log = options.directory / "logs" / "stack.log"
    make_directory(options.directory)
    make_private_directory(log.parent)
    with log.open("ab") as sink, log.open(encoding="utf-8", errors="replace") as output:
        output.seek(0, os.SEEK_END)
        child = subprocess.Popen(  # noqa: S603 - the same command
            [sys.executable, "-m", "poise", "up", "--detached", *_arguments(options)],
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            start_new_session=True,
        )
        try:
            while (state := running_stack(options.directory)) is None or not state.ready:
                on_output(output.read())
                if child.poll() is not None:
                    on_output(output.read())
                    raise StackExitedError(options.directory, child.returncode)
                time.sleep(_POLL_INTERVAL)
        except KeyboardInterrupt:
            child.terminate()
            child.wait()
            raise
        on_output(output.read())
    return state


def stop_stack(state: StackState, directory: Path) -> None:
    """Stop the stack that runs in a directory, and wait until its process has ended.

    Raises:
        SetupError: It has not ended within `STOP_TIMEOUT`.
    """
    os.kill(state.pid, signal.SIGTERM)
    until = time.monotonic() + STOP_TIMEOUT
    while is_running(directory):  # its state file is removed before its process ends
        if time.monotonic() > until:
            raise SetupError(f"the stack (pid {state.pid}) has not stopped in {STOP_TIMEOUT:.0f} s: kill {state.pid}")
        time.sleep(_POLL_INTERVAL)


def _arguments(options: StackOptions) -> list[str]:
    """Return the options as arguments of `poise up`."""
    ports, external = options.ports, options.external
    values = {
        "--dir": options.directory,
        "--workers": ",".join(f"{tier}={count}" for tier, count in options.workers.items()),
        "--broker": external.broker,
        "--redis": external.redis_url,
        "--model-url": external.model_url,
        "--model-name": external.model_name,
        "--model-key-env": external.model_key_env,
        "--model": options.model,
        "--port-gateway": ports.gateway,
        "--port-kafka": ports.kafka,
        "--port-redis": ports.redis,
        "--port-model": ports.model,
    }
    words = [word for name, value in values.items() if value is not None for word in (name, str(value))]
    words += [word for where, count in options.custom_tiers.items() for word in ("--tier", f"{where}={count}")]
    return [*words, "--verify"] if options.verify else words
