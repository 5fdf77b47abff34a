"""The log of a process: repeated messages of a library are written once in a while, with their number."""

import ast
import asyncio
import gc
import logging
import os
import signal
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from poise.errors import SetupError
from poise.liveness import Liveness
from poise.worker import process
from poise.worker.process import RateLimitFilter, StopSignal, exit_eventually, frozen_gc, run_until_stopped


def record(name: str, message: str, *arguments: object) -> logging.LogRecord:
    return logging.LogRecord(name, logging.WARNING, "file", 1, message, arguments, None)


def test_repeated_messages_of_a_library_are_suppressed_and_counted() -> None:
    now = 0.0
    sparing = RateLimitFilter("aiokafka", every=5.0, clock=lambda: now)
    passed = [sparing.filter(record("aiokafka.conn", "no answer from %s", node)) for node in range(10)]
    assert passed == [True] + [False] * 9
    assert sparing.filter(record("aiokafka.conn", "something else"))
    now = 5.0
    again = record("aiokafka.conn", "no answer from %s", 1)
    assert sparing.filter(again)
    assert again.getMessage() == "no answer from 1 (9 similar messages suppressed)"


def test_log_messages_of_poise_are_never_suppressed() -> None:
    sparing = RateLimitFilter("aiokafka", every=5.0)
    assert all(sparing.filter(record("poise.kafka", "the same")) for _ in range(3))


def test_startup_objects_are_excluded_from_garbage_collection() -> None:
    with frozen_gc():
        assert gc.get_freeze_count() > 1_000
    assert gc.get_freeze_count() == 0


ENTRIES = ("shared/poise/__main__.py", *map(str, sorted(Path("services/poise_services").glob("*/__main__.py"))))


@pytest.mark.parametrize("entry", ENTRIES)
def test_each_entry_point_handles_sigterm_before_other_imports(entry: str) -> None:
    body = ast.parse(Path(entry).read_text()).body
    first = next(node for node in body if isinstance(node, ast.Import | ast.ImportFrom))
    assert isinstance(first, ast.Import)
    assert [alias.name for alias in first.names] == ["poise.system.sigterm"]


def test_installed_command_is_one_of_the_entry_points() -> None:
    assert len(ENTRIES) == 7
    assert tomllib.loads(Path("pyproject.toml").read_text())["project"]["scripts"] == {"poise": "poise.__main__:main"}


@pytest.fixture
def handlers() -> Iterator[None]:
    """Restore the process's own signal handlers after the test."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("handlers")
async def test_process_stopped_during_startup_closes_its_resources() -> None:
    closed = []

    async def main() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.Event().wait()
        finally:
            closed.append(True)

    assert await run_until_stopped(main) == 143
    assert closed


@pytest.mark.usefixtures("handlers")
async def test_startup_is_cancelled_again_if_a_library_suppresses_the_cancellation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(process, "RECANCEL_INTERVAL", 0.01)

    async def main() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(2):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                continue
        await asyncio.Event().wait()

    assert await run_until_stopped(main) == 143


@pytest.mark.usefixtures("handlers")
async def test_startup_that_ignores_cancellation_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "RECANCEL_INTERVAL", 0.01)
    monkeypatch.setattr(process, "STARTUP_CANCEL_TIMEOUT", 0.05)
    ended = asyncio.Event()
    monkeypatch.setattr(os, "_exit", lambda code: ended.set() if code == 143 else None)

    async def main() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        while not ended.is_set():
            try:
                await ended.wait()
            except asyncio.CancelledError:
                continue

    assert await run_until_stopped(main) == 143
    assert ended.is_set()


@pytest.mark.usefixtures("handlers")
async def test_started_process_stops_by_its_stop_signal() -> None:
    stop = StopSignal()

    async def main() -> None:
        stop.install()
        os.kill(os.getpid(), signal.SIGTERM)
        await stop.wait()

    assert await run_until_stopped(main) == 0


@pytest.mark.usefixtures("handlers")
async def test_process_with_a_hanging_thread_is_ended(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(process, "EXIT_TIMEOUT", 0.05)
    ended = threading.Event()
    monkeypatch.setattr(os, "_exit", lambda code: ended.set() if code == 1 else None)

    async def main() -> None:
        liveness = Liveness(on_fatal=exit_eventually)
        liveness.component("reader of a").fail(ValueError("no such thing"))
        try:
            await liveness.watch()
        finally:
            ended.wait(20)  # like a thread pool whose thread hangs: the event loop is blocked

    with pytest.raises(SetupError):
        await run_until_stopped(main)
    assert ended.is_set()
    (line,) = [record.getMessage() for record in caplog.records if record.name == process.__name__]
    assert line.startswith("reader of a has failed: ValueError: no such thing: the process did not end within")


async def test_process_of_a_client_program_is_not_ended() -> None:
    before = threading.active_count()
    exit_eventually("a mesh in somebody's program has a part that stands still")
    assert threading.active_count() == before
