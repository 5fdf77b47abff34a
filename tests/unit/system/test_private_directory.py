"""Folders of Poise are accessible only by their owner: new ones, and existing ones if they belong to Poise."""

import os
import stat
from pathlib import Path

import pytest

from poise.stack import jars, state
from poise.stack.jars import JarStore
from poise.stack.kafka_runtime import KafkaRuntime
from poise.system.private_directory import make_private_directory
from poise_services.retrieval.store import IndexFolder


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(autouse=True)
def usual_umask() -> None:
    os.umask(0o022)


def test_new_directory_is_private(tmp_path: Path) -> None:
    make_private_directory(tmp_path / "a" / "b")
    assert mode(tmp_path / "a" / "b") == 0o700


def test_existing_directory_of_poise_is_made_private(tmp_path: Path) -> None:
    for open_mode, closed in ((0o755, 0o700), (0o770, 0o700), (0o500, 0o500)):
        tmp_path.chmod(open_mode)
        make_private_directory(tmp_path, ours=True)
        assert mode(tmp_path) == closed


def test_default_stack_directory_is_made_private(tmp_path: Path) -> None:
    usual, chosen = tmp_path / ".poise", tmp_path / "chosen"
    for folder in (usual, chosen):
        folder.mkdir(mode=0o755)
        with state.lock(folder):
            state.write_state(folder, state.StackState(pid=1, ready=False, since=0.0))
            assert mode(folder / "stack.json") == 0o600
    assert mode(usual) == 0o700
    assert mode(chosen) == 0o755, "somebody chose it, and it may hold other things: perhaps it is their home"
    with state.lock(tmp_path / "new"):
        assert mode(tmp_path / "new") == 0o700


def test_index_directory_is_private(tmp_path: Path) -> None:
    (tmp_path / "index").mkdir(mode=0o755)
    with IndexFolder(tmp_path / "index"):
        assert mode(tmp_path / "index") == 0o700


def test_cache_directory_is_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(JarStore, "ensure", lambda *_, **__: None)  # nothing is downloaded
    cache = jars.cache_directory()
    cache.mkdir(mode=0o755)
    KafkaRuntime.prepare(lambda _: None)
    assert mode(cache) == 0o700
