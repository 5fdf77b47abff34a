"""Shared fixtures: a real Kafka and a real Valkey, started once. The session fails if a process is left behind."""

import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import hypothesis
import pytest
import pytest_asyncio
from marked_tools import lacking, required

from poise.kafka import topic_setup
from poise.settings import MeshSettings
from poise.stack.kafka import Kafka
from poise.stack.valkey import Valkey

hypothesis.settings.register_profile("poise", deadline=None)  # an example's duration depends on other load
hypothesis.settings.load_profile("poise")

SESSION = "POISE_TEST_SESSION"
os.environ[SESSION] = uuid4().hex  # every process that a test starts inherits it, orphans too


def survivors() -> list[str]:
    """Return the processes that this test session has started and that still run, by id and command."""
    found, mark = [], f"{SESSION}={os.environ[SESSION]}".encode()
    for process in Path("/proc").glob("[0-9]*") if sys.platform == "linux" else ():
        try:
            marked = mark in (process / "environ").read_bytes().split(b"\0")
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it has just ended, or belongs to another user
            continue
        if marked and int(process.name) != os.getpid():
            found.append(f"{process.name} {command}")
    return found


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the session if a process is left behind."""
    left = survivors()
    if left:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        sys.stderr.write("\nprocesses left behind:\n" + "\n".join(left) + "\n")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose marker names a missing tool, with the reason; fail it where tools are required."""
    why = lacking({marker.name for marker in item.iter_markers()})
    if why is not None:
        (pytest.fail if required() else pytest.skip)(why)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def kafka_node(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Kafka]:
    """Run a Kafka with every topic of the catalog for the whole session."""
    async with Kafka(tmp_path_factory.mktemp("kafka")) as node:
        await topic_setup.apply(MeshSettings(broker=node.bootstrap))
        yield node


@pytest.fixture(scope="session")
def kafka(kafka_node: Kafka) -> str:
    """Return the bootstrap address of the session's Kafka."""
    return kafka_node.bootstrap


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def valkey(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """Run a Valkey for the whole session and yield its URL; each test chooses unique keys."""
    async with Valkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server.url


@pytest.fixture
def mesh_settings(kafka: str, valkey: str, tmp_path: Path) -> MeshSettings:
    """Return the settings of a mesh process that uses the session's Kafka and Valkey."""
    return MeshSettings(broker=kafka, redis_url=valkey, state_dir=tmp_path)
