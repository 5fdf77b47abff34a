"""Child processes end if they are stopped and if their parent dies."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from poise.stack.process import ChildProcess

pytestmark = pytest.mark.integration

PARENT = """
import asyncio, sys
from pathlib import Path
from poise.stack.process import ChildProcess

async def main():
    child = ChildProcess("child", sys.argv[2:], log=Path(sys.argv[1]))
    await child.start()
    print(child.pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    """Return a named pipe. A reader sees its end when the last process that writes to it has ended."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    return path


def pipe_holder(pipe: Path) -> list[str]:
    """Return a command that writes a line to the pipe; it and its child keep the pipe open forever."""
    return ["sh", "-c", f'exec > "{pipe}"; echo here; sleep 1000 & exec sleep 1000']


def test_a_child_ends_if_its_parent_is_killed(tmp_path: Path, pipe: Path) -> None:
    command = ["sh", "-c", f'exec > "{pipe}"; echo here; exec sleep 1000']
    with (
        subprocess.Popen(
            [sys.executable, "-c", PARENT, tmp_path / "log", *command], env={**os.environ, "PYTHONPATH": "shared"}
        ) as parent,
        pipe.open() as held,
    ):
        assert held.readline() == "here\n"
        parent.kill()
        assert held.read() == ""


def test_the_parent_death_watch_kills_the_child_if_stdin_closes(pipe: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "poise.stack.parent_death_watch", *pipe_holder(pipe)],
        stdin=subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": "shared"},
    ) as watch:
        with pipe.open() as held:
            assert held.readline() == "here\n"
            assert watch.stdin is not None
            watch.stdin.close()
            assert held.read() == ""
        assert watch.wait() == -signal.SIGKILL


def test_the_parent_death_watch_forwards_signals_and_the_exit_code() -> None:
    script = "trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done"
    with subprocess.Popen(
        [sys.executable, "-m", "poise.stack.parent_death_watch", "sh", "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": "shared"},
    ) as watch:
        assert watch.stdout is not None
        assert watch.stdout.readline() == b"ready\n"
        watch.terminate()
        assert watch.wait() == 7


async def test_a_process_that_ignores_sigterm_is_killed_with_its_children(tmp_path: Path, pipe: Path) -> None:
    command = ["sh", "-c", f"trap '' TERM; exec > \"{pipe}\"; echo here; sleep 1000 & while :; do sleep 0.05; done"]
    child = ChildProcess("stubborn", command, log=tmp_path / "log")
    await child.start()
    with pipe.open() as held:
        assert held.readline() == "here\n"
        await child.stop(grace=0.1)
        assert held.read() == ""
    assert child.returncode == -signal.SIGKILL


async def test_the_tail_has_only_the_output_of_the_last_start(tmp_path: Path) -> None:
    child = ChildProcess("talker", ["sh", "-c", "echo one; echo; echo two"], log=tmp_path / "log")
    for _ in range(2):
        await child.start()
        await child.wait()
        assert child.tail() == ["one", "two"]
        assert child.tail(1) == ["two"]
    assert (tmp_path / "log").read_text().count("one") == 2


async def test_stopping_an_ended_process_does_nothing(tmp_path: Path) -> None:
    child = ChildProcess("short", ["true"], log=tmp_path / "log")
    await child.stop(grace=1)
    await child.start()
    assert await child.wait() == 0
    await child.stop(grace=1)
    child.kill()
