"""Child processes end when they are told to, and when their parent is gone."""

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
    """A named pipe: whoever reads it comes to its end when the last process that writes to it is gone."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    return path


def holding(pipe: Path) -> list[str]:
    """A command that writes a line to the pipe and holds it open for ever, as does a child of its own."""
    return ["sh", "-c", f'exec > "{pipe}"; echo here; sleep 1000 & exec sleep 1000']


def test_a_child_dies_with_a_parent_that_is_killed(tmp_path: Path, pipe: Path) -> None:
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


def test_the_tether_does_the_same_where_the_kernel_does_not(pipe: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "poise.stack.parent_death_watch", *holding(pipe)],
        stdin=subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": "shared"},
    ) as tether:
        with pipe.open() as held:
            assert held.readline() == "here\n"
            assert tether.stdin is not None
            tether.stdin.close()
            assert held.read() == ""
        assert tether.wait() == -signal.SIGKILL


def test_the_tether_hands_signals_on_and_reports_the_end() -> None:
    script = "trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done"
    with subprocess.Popen(
        [sys.executable, "-m", "poise.stack.parent_death_watch", "sh", "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": "shared"},
    ) as tether:
        assert tether.stdout is not None
        assert tether.stdout.readline() == b"ready\n"
        tether.terminate()
        assert tether.wait() == 7


async def test_one_that_will_not_end_is_killed_with_what_it_started(tmp_path: Path, pipe: Path) -> None:
    command = ["sh", "-c", f"trap '' TERM; exec > \"{pipe}\"; echo here; sleep 1000 & while :; do sleep 0.05; done"]
    child = ChildProcess("stubborn", command, log=tmp_path / "log")
    await child.start()
    with pipe.open() as held:
        assert held.readline() == "here\n"
        await child.stop(grace=0.1)
        assert held.read() == ""
    assert child.returncode == -signal.SIGKILL


async def test_the_tail_is_of_this_start_alone(tmp_path: Path) -> None:
    child = ChildProcess("talker", ["sh", "-c", "echo one; echo; echo two"], log=tmp_path / "log")
    for _ in range(2):
        await child.start()
        await child.wait()
        assert child.tail() == ["one", "two"]
        assert child.tail(1) == ["two"]
    assert (tmp_path / "log").read_text().count("one") == 2


async def test_stopping_what_has_ended_is_nothing(tmp_path: Path) -> None:
    child = ChildProcess("short", ["true"], log=tmp_path / "log")
    await child.stop(grace=1)
    await child.start()
    assert await child.wait() == 0
    await child.stop(grace=1)
    child.kill()
