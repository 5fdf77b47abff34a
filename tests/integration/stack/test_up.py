"""`poise up`, `poise status` and `poise down` on the command line."""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from poise.stack.state import running_stack

pytestmark = pytest.mark.integration

SERVERS = ("--workers", "gateway=0,orchestration=0,retrieval=0,inference=0,evaluation=0")

PATHS = os.pathsep.join((str(Path("shared").absolute()), str(Path.cwd())))

Poise = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def poise(tmp_path: Path) -> Iterator[Poise]:
    """Run `poise` in an empty directory; stop a stack that is left there."""
    environment = {**os.environ, "PYTHONPATH": PATHS}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "poise", *arguments]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=120
        )

    yield run
    if state := running_stack(tmp_path / ".poise"):
        run("down")
        wait_until_ended(state.pid)


def wait_until_ended(pid: int) -> None:
    """Wait for the end of a stack that has released the lock of its folder, which is its last step but one."""
    until = time.monotonic() + 20
    while alive(pid):
        assert time.monotonic() < until, f"the stack, process {pid}, does not end"
        time.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())  # a zombie's is empty
    except OSError:
        return False


def test_a_detached_stack_is_shown_and_stopped(poise: Poise, tmp_path: Path) -> None:
    up = poise("up", "--detach", *SERVERS)
    assert up.returncode == 0, up.stderr
    assert "Ready in" in up.stdout

    state = json.loads(poise("status", "--json").stdout)
    assert [part["name"] for part in state["parts"]] == ["kafka", "redis"]
    assert state["broker"] in up.stdout
    shown = poise("status")
    assert "serves" in shown.stdout
    assert state["broker"] in shown.stdout

    second = poise("up", "--detach", *SERVERS)
    assert_one_line(second, "already runs in .poise")

    assert poise("down").returncode == 0
    assert_one_line(poise("status"), "no stack runs in .poise: `poise up`")
    assert poise("down").returncode == 0, "stopping without a stack is no error"
    for part in state["parts"]:
        with pytest.raises(ProcessLookupError):
            os.kill(part["pid"], 0)
    assert (tmp_path / ".poise" / "kafka" / "data" / "meta.properties").exists()


def test_ctrl_c_during_the_start_stops_the_stack_cleanly(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "poise", "up", *SERVERS],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": PATHS},
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as up:
        assert up.stderr is not None
        while "Valkey" not in up.stderr.readline():
            pass
        up.send_signal(signal.SIGINT)
        stdout, stderr = up.communicate(timeout=60)
    assert up.returncode == 0
    assert stdout == ""
    assert stderr.splitlines()[-1] == "Stopped."
    assert "Traceback" not in stderr
    assert running_stack(tmp_path / ".poise") is None


@pytest.mark.skipif(sys.platform != "linux", reason="waits for processes that are not its children")
def test_the_parts_of_a_killed_stack_end(poise: Poise) -> None:
    poise("up", "--detach", *SERVERS)
    state = json.loads(poise("status", "--json").stdout)
    handles = [os.pidfd_open(part["pid"]) for part in state["parts"]]
    try:
        os.kill(state["pid"], signal.SIGKILL)
        for handle in handles:
            assert select.select([handle], [], [], 30)[0], "it still runs"
    finally:
        for handle in handles:
            os.close(handle)
    assert_one_line(poise("status"), "no stack runs")

    again = poise("up", "--detach", *SERVERS)
    assert again.returncode == 0, again.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--workers", "poets=3"), "there is no tier 'poets': the tiers are gateway,"),
        (("--workers", "inference=some"), "write inference=3,retrieval=2"),
        (("--broker", "127.0.0.1:1"), "no Kafka answers at 127.0.0.1:1"),
        (("--redis", "redis://127.0.0.1:1/0"), "no Redis answers at 127.0.0.1:1"),
        (("--model-url", "http://127.0.0.1:1", "--model-name", "m"), "no model server answers at"),
        (("--model-url", "http://127.0.0.1:1"), "--model-url needs --model-name"),
        (
            ("--model", "absent.gguf", "--workers", "gateway=0,orchestration=0,retrieval=0,evaluation=0"),
            "does not exist",
        ),
    ],
)
def test_an_option_that_cannot_be_met_is_one_clear_line(
    poise: Poise, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    assert_one_line(poise("up", *arguments), message)
    assert running_stack(tmp_path / ".poise") is None


def test_a_port_in_use_is_one_clear_line(poise: Poise) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        refused = poise("up", *SERVERS, "--port-kafka", str(port))
    assert_one_line(refused, f"port {port} for Kafka is in use: stop the process that listens there, or set --port-k")


def assert_one_line(done: "subprocess.CompletedProcess[str]", message: str) -> None:
    """Assert that a command failed with exit code 1 and one line that contains `message`, without a traceback."""
    assert done.returncode == 1, (done.stdout, done.stderr)
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("poise: ")]
    assert message in line
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


CUSTOM_TIER = """
from poise.contracts import Message, Request
from poise import Tier

class Said(Message):
    kind = "said/1"
    text: str

class Say(Request[Said]):
    kind = "say/1"
    reply = Said
    tier = "parrot"
    text: str

def say(request, context):
    return Said(text=request.text)

tier = Tier("parrot", {Say: say})
"""


def test_workers_of_a_custom_tier_run_with_the_stack(poise: Poise, tmp_path: Path) -> None:
    (tmp_path / "parrots.py").write_text(CUSTOM_TIER, encoding="utf-8")
    assert_one_line(poise("up", *SERVERS, "--tier", "nowhere.py"), "there is no file nowhere.py")

    up = poise("up", "--detach", *SERVERS, "--tier", "parrots.py=2")
    assert up.returncode == 0, up.stderr
    state = json.loads(poise("status", "--json").stdout)
    assert [(part["name"], part["tier"]) for part in state["parts"]][2:] == [
        ("parrots-1", "parrots"),
        ("parrots-2", "parrots"),
    ]
    asking = """
import asyncio
from poise import Poise
from parrots import Say

async def main():
    async with Poise() as poise:
        print((await poise.call(Say(text="hello"))).text)

asyncio.run(main())
"""
    environment = {**os.environ, "PYTHONPATH": PATHS, "POISE_BROKER": state["broker"]}
    asked = subprocess.run(
        [sys.executable, "-c", asking], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert asked.stdout == "hello\n"
