"""ProcessPool: cancelled calls, processes that end, and no orphans."""

import asyncio
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from poise.errors import RetryableError, SetupError, TerminalError
from poise.executors.processes import ProcessPool

pytestmark = pytest.mark.integration

Functions = dict[str, Any]

# The functions are in a module that a process can import, like a user's; a test module is not importable.
FUNCTIONS = """
import os, signal, subprocess, sys, time
from poise.errors import RetryableError, TerminalError

class Odd(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")

def pid(_):
    print("printed, and no answer")
    return os.getpid()

def spin(file):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    with open(file + ".new", "w") as f:
        f.write(f"{os.getpid()} {child.pid}")
    os.replace(file + ".new", file)
    while True:
        pass

def fail(how):
    if how == "retryable":
        raise RetryableError("busy", retry_after=3.0)
    if how == "terminal":
        raise TerminalError("never")
    if how == "odd":
        raise Odd(1, 2)
    if how == "exit":
        sys.exit(3)
    if how == "hard":
        os._exit(7)
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "pid":
        return os.getpid()
    return lambda: None

def read(_):
    return sys.stdin.read()
"""


@pytest.fixture(scope="module")
def functions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Functions]:
    folder = tmp_path_factory.mktemp("functions")
    (folder / "pooled_functions.py").write_text(FUNCTIONS, encoding="utf-8")
    sys.path.insert(0, str(folder))
    yield vars(__import__("pooled_functions"))
    sys.path.remove(str(folder))


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


async def wait_until_ended(*pids: int) -> None:
    async with asyncio.timeout(20):
        while any(map(alive, pids)):  # noqa: ASYNC110 - there is no event for the end of a process that is not a child
            await asyncio.sleep(0.01)


async def read_pids(file: Path) -> list[int]:
    def read() -> list[int]:
        return [int(pid) for pid in file.read_text(encoding="utf-8").split()] if file.exists() else []

    async with asyncio.timeout(20):
        while not (pids := read()):  # noqa: ASYNC110 - another process writes it
            await asyncio.sleep(0.01)
    return pids


async def test_processes_are_reused_and_ended(functions: Functions, capfd: pytest.CaptureFixture[str]) -> None:
    async with ProcessPool(functions["pid"], 2) as pool:
        pids = await asyncio.gather(*(pool.apply(n) for n in range(20)))
        assert os.getpid() not in pids
        assert len(set(pids)) == 2
        assert all(map(alive, pids))
    assert not any(map(alive, pids))
    assert capfd.readouterr().err.count("printed, and no answer") == 20


async def test_a_cancelled_call_kills_its_process_group(functions: Functions, tmp_path: Path) -> None:
    async with ProcessPool(functions["spin"], 1) as pool:
        call = asyncio.create_task(pool.apply(str(tmp_path / "a")))
        first = await read_pids(tmp_path / "a")
        waiting = asyncio.create_task(pool.apply(str(tmp_path / "b")))
        call.cancel()
        second = await read_pids(tmp_path / "b")
        await wait_until_ended(*first)
        assert all(map(alive, second))
        waiting.cancel()
        await asyncio.gather(call, waiting, return_exceptions=True)
    await wait_until_ended(*second)


@pytest.mark.parametrize(
    ("how", "seen", "says"),
    [
        ("retryable", RetryableError, "busy"),
        ("terminal", TerminalError, "never"),
        ("odd", RuntimeError, "Odd: 1 and 2"),
        ("exit", RuntimeError, "raised SystemExit: 3"),
        ("lambda", Exception, "lambda"),
    ],
)
async def test_an_error_is_raised_with_its_traceback(
    functions: Functions, how: str, seen: type[Exception], says: str
) -> None:
    async with ProcessPool(functions["fail"], 1) as pool:
        pid = await pool.apply("pid")
        with pytest.raises(seen, match=says) as caught:
            await pool.apply(how)
        assert await pool.apply("pid") == pid, "an error does not end the process"
    if how == "retryable":
        assert isinstance(caught.value, RetryableError)
        assert caught.value.retry_after == 3.0
    text = "".join(traceback.format_exception(caught.value))
    assert how == "lambda" or "pooled_functions.py" in text


@pytest.mark.parametrize(("how", "says"), [("hard", "ended with exit code 7"), ("kill", "was killed by signal 9")])
async def test_a_dead_process_is_retryable_and_replaced(functions: Functions, how: str, says: str) -> None:
    async with ProcessPool(functions["fail"], 1) as pool:
        with pytest.raises(RetryableError, match=f"the process of fail {says}"):
            await pool.apply(how)
        pid = await pool.apply("pid")
        os.kill(pid, signal.SIGKILL)  # while it is idle
        await wait_until_ended(pid)
        with suppress(RetryableError):  # the next call may detect it
            await pool.apply("pid")
        assert await pool.apply("pid") != pid


async def test_a_function_cannot_read_the_request_pipe(functions: Functions) -> None:
    async with ProcessPool(functions["read"], 1) as pool:
        assert await pool.apply(None) == ""


async def test_urgent_calls_come_first(functions: Functions, tmp_path: Path) -> None:
    order: list[str] = []
    async with ProcessPool(functions["spin"], 1) as pool:
        busy = asyncio.create_task(pool.apply(str(tmp_path / "busy")))
        await read_pids(tmp_path / "busy")

        async def call(name: str, *, urgent: bool) -> None:
            child = await pool._idle.take(urgent=urgent)
            order.append(name)
            pool._idle.release(child)

        calls = [asyncio.create_task(call(name, urgent=name.startswith("u"))) for name in ("b1", "u1", "b2", "u2")]
        await asyncio.sleep(0)
        calls[1].cancel()
        busy.cancel()
        await asyncio.gather(busy, *calls, return_exceptions=True)
    assert order == ["u2", "b1", "b2"]


async def test_a_process_granted_to_a_call_cancelled_at_that_moment_is_not_lost(functions: Functions) -> None:
    async with ProcessPool(functions["pid"], 1) as pool:
        child = await pool._idle.take(urgent=True)
        waiting = asyncio.create_task(pool.apply(None))
        await asyncio.sleep(0)
        pool._idle.release(child)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert pool._idle._free == [child]


async def test_a_process_that_does_not_start_fails_on_entering(tmp_path: Path) -> None:
    (tmp_path / "only_once.py").write_text(
        "import os\nif os.environ.get('ONCE'):\n    raise OSError('no model file')\n\ndef f(x):\n    return x\n",
        encoding="utf-8",
    )
    sys.path.insert(0, str(tmp_path))
    try:
        pool = ProcessPool(__import__("only_once").f, 2)
        os.environ["ONCE"] = "1"
        with pytest.raises(SetupError, match="the process of f ended with exit code 1"):
            await pool.__aenter__()
    finally:
        os.environ.pop("ONCE", None)
        sys.path.remove(str(tmp_path))


@pytest.mark.usefixtures("functions")
async def test_no_process_outlives_a_killed_parent(tmp_path: Path) -> None:
    code = f"""
import asyncio, sys
from pooled_functions import spin, pid
from poise.executors.processes import ProcessPool

async def main():
    async with ProcessPool(spin, 1) as busy, ProcessPool(pid, 1) as idle:
        print(await idle.apply(0), flush=True)
        await busy.apply({str(tmp_path / "spins")!r})

asyncio.run(main())
"""
    path = os.pathsep.join(sys.path)
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE, env={**os.environ, "PYTHONPATH": path}
    )
    try:
        assert parent.stdout is not None
        idle = int(await parent.stdout.readline())
        pids = [idle, *await read_pids(tmp_path / "spins")]
        assert all(map(alive, pids))
    finally:
        parent.kill()
        await parent.communicate()
    await wait_until_ended(*pids)
