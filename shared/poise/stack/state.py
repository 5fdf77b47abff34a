"""The state of a stack: a file with its parts and addresses, and a lock that is held while it runs."""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from poise.errors import SetupError
from poise.system.private_directory import make_private_directory

DEFAULT_DIRECTORY: Final = Path(".poise")

_STATE: Final = "stack.json"
_LOCK: Final = "stack.lock"


class PartState(BaseModel):
    """One part of a stack."""

    model_config = ConfigDict(frozen=True)

    name: str
    """`kafka`, `redis`, `model`, or a worker's instance."""
    tier: str | None = None
    """A worker's tier."""
    ours: bool = True
    """False for an external service."""
    pid: int | None = None
    address: str
    """`host:port` or a URL; a worker's is its admin endpoint (`/healthz`, `/readyz`, `/metrics`)."""
    since: float | None = None
    """When it began to serve, unix seconds; None = it does not serve now, or is external."""
    log: Path | None = None
    restarts: int = 0


class StackState(BaseModel):
    """A running stack, as other processes see it."""

    model_config = ConfigDict(frozen=True, protected_namespaces=())

    pid: int
    """The process that supervises it."""
    ready: bool
    """False while it starts."""
    since: float
    """When it was started, unix seconds."""
    broker: str | None = None
    redis_url: str | None = None
    gateway_url: str | None = None
    model_url: str | None = None
    model_name: str | None = None
    parts: tuple[PartState, ...] = ()


def is_running(directory: Path) -> bool:
    """Return whether a stack runs in a directory, even if it has no state file while it starts or stops."""
    lock = directory / _LOCK
    return lock.exists() and _is_held(lock)


def running_stack(directory: Path = DEFAULT_DIRECTORY) -> StackState | None:
    """Return the stack that runs in a directory; None if none does, even if a killed one left its state file.

    Raises:
        SetupError: One runs, and its state file cannot be read.
    """
    for _ in range(20):  # it takes the lock before it writes the file, and releases it after it removes the file
        if not is_running(directory):
            return None
        with contextlib.suppress(FileNotFoundError, ValidationError):  # not written yet, or removed just now
            return StackState.model_validate_json((directory / _STATE).read_bytes())
        time.sleep(0.05)
    raise SetupError(f"a stack runs in {directory}, but its state file {directory / _STATE} is missing or damaged")


def write_state(directory: Path, state: StackState) -> None:
    """Write the state file atomically."""
    partial = directory / f"{_STATE}.partial"
    partial.unlink(missing_ok=True)
    partial.touch(mode=0o600)  # an address may contain a password
    partial.write_text(state.model_dump_json(indent=2) + "\n", encoding="utf-8")
    partial.replace(directory / _STATE)


def make_directory(directory: Path) -> None:
    """Create the directory of a stack, accessible only to its owner.

    Raises:
        OSError: It cannot be created.
    """
    make_private_directory(directory, ours=directory.name == DEFAULT_DIRECTORY.name)


@contextlib.contextmanager
def lock(directory: Path) -> Iterator[None]:
    """Lock a directory for one stack. The kernel releases the lock when the process ends for any reason.

    Raises:
        SetupError: Another stack runs there, or the directory cannot be written.
    """
    try:
        make_directory(directory)
        handle = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise SetupError(
            f"the directory {directory} cannot be used ({error.strerror}): make it writable, or choose another: --dir"
        ) from error
    try:
        _lock(handle, directory)
        (directory / _STATE).unlink(missing_ok=True)
        yield
        (directory / _STATE).unlink(missing_ok=True)
    finally:
        os.close(handle)


def _lock(handle: int, directory: Path) -> None:
    for _ in range(5):  # `is_running` in another process holds it for an instant
        with contextlib.suppress(BlockingIOError):  # held: tried again
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        time.sleep(0.02)
    raise SetupError(
        f"a stack already runs in {directory}: `poise status` shows it, `poise down` stops it, --dir starts another one"
    )


def _is_held(lock: Path) -> bool:
    handle = os.open(lock, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False
