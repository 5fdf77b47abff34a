"""Which stack runs in a directory: the lock decides, the state file only describes it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from poise.errors import SetupError
from poise.stack.state import PartState, StackState, is_running, lock, running_stack, write_state

STATE = StackState(
    pid=os.getpid(),
    ready=True,
    since=1.0,
    broker="127.0.0.1:1",
    parts=(PartState(name="kafka", address="127.0.0.1:1"),),
)


def test_no_stack_is_found_in_an_empty_directory(tmp_path: Path) -> None:
    assert running_stack(tmp_path / "absent") is None
    assert running_stack(tmp_path) is None


def test_running_stack_is_found_and_stopped_stack_is_not(tmp_path: Path) -> None:
    with lock(tmp_path):
        write_state(tmp_path, STATE)
        assert running_stack(tmp_path) == STATE
    assert running_stack(tmp_path) is None
    assert not (tmp_path / "stack.json").exists()


def test_stack_without_a_readable_state_counts_as_running(tmp_path: Path) -> None:
    assert not is_running(tmp_path)
    with lock(tmp_path):
        assert is_running(tmp_path), "it starts"
        write_state(tmp_path, STATE)
        (tmp_path / "stack.json").unlink()
        assert is_running(tmp_path), "it stops"
    assert not is_running(tmp_path)
    assert running_stack(tmp_path) is None


def test_directory_has_at_most_one_stack(tmp_path: Path) -> None:
    with (
        lock(tmp_path),
        pytest.raises(SetupError, match=r"already runs .*`poise down`"),
        lock(tmp_path),
    ):
        pytest.fail("held twice")


def test_state_of_a_killed_stack_is_ignored(tmp_path: Path) -> None:
    script = f"""
import os, pathlib, signal, sys
from poise.stack.state import StackState, lock, write_state
place = pathlib.Path({str(tmp_path)!r})
with lock(place):
    write_state(place, StackState(pid=os.getpid(), ready=True, since=1.0))
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", script], check=False, env={**os.environ, "PYTHONPATH": "shared"})
    assert done.returncode == -9
    assert (tmp_path / "stack.json").exists()

    assert running_stack(tmp_path) is None
    with lock(tmp_path):
        assert not (tmp_path / "stack.json").exists()


def test_state_file_is_readable_only_by_its_owner(tmp_path: Path) -> None:
    with lock(tmp_path):
        write_state(tmp_path, STATE)
        assert (tmp_path / "stack.json").stat().st_mode & 0o777 == 0o600


def test_uncreatable_directory_is_reported_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SetupError, match=r"cannot be used .* --dir"), lock(tmp_path / "file" / "stack"):
        pytest.fail("held")
