"""The folder of jars: which files are trusted, checked again or downloaded again."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from poise.errors import SetupError
from poise.stack import jars
from poise.stack.jars import JarStore
from poise.stack.maven import Jar

CONTENT = {"one": b"first", "two": b"second"}
LIST = [Jar("org", name, "1.0", len(body), hashlib.sha256(body).hexdigest()) for name, body in CONTENT.items()]


class RecordingRepository:
    """A fake repository: writes the requested jars and records the requests."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def fetch(self, wanted: Sequence[Jar], directory: Path) -> Iterator[Path]:
        for jar in wanted:
            self.asked.append(jar.artifact)
            path = directory / jar.filename
            path.write_bytes(CONTENT[jar.artifact])
            yield path


@pytest.fixture
def repository(monkeypatch: pytest.MonkeyPatch) -> RecordingRepository:
    stand_in = RecordingRepository()
    monkeypatch.setattr(jars, "fetch_jars", stand_in.fetch)
    return stand_in


@pytest.fixture
def messages() -> list[str]:
    return []


@pytest.fixture
def store(tmp_path: Path, repository: RecordingRepository, messages: list[str]) -> JarStore:
    filled = JarStore(tmp_path / "kafka", LIST)
    filled.ensure(messages.append)
    assert sorted(repository.asked) == ["one", "two"]
    repository.asked.clear()
    messages.clear()
    return filled


def test_existing_jars_are_not_downloaded_again(
    store: JarStore, repository: RecordingRepository, messages: list[str]
) -> None:
    store.ensure(messages.append)

    assert repository.asked == []
    assert messages == []
    assert sorted(path.name for path in store.directory.iterdir()) == ["one-1.0.jar", "two-1.0.jar"]


@pytest.mark.parametrize("damage", [b"first and more", b"fir", b"FIRST", b""])
def test_damaged_jar_is_detected_and_downloaded_again(
    store: JarStore, repository: RecordingRepository, messages: list[str], damage: bytes
) -> None:
    (store.directory / "one-1.0.jar").write_bytes(damage)

    store.ensure(messages.append)

    assert repository.asked == ["one"]
    assert "one-1.0.jar is damaged" in messages[0]
    assert (store.directory / "one-1.0.jar").read_bytes() == CONTENT["one"]


def test_jar_with_a_new_mtime_is_verified_once_and_then_trusted(
    store: JarStore, repository: RecordingRepository, messages: list[str]
) -> None:
    jar = store.directory / "one-1.0.jar"
    jar.touch()

    store.ensure(messages.append)

    assert repository.asked == []
    assert jar.stat().st_mtime == jars.VERIFIED_MTIME


def test_damage_with_an_unchanged_mtime_is_found_by_a_full_verification(
    store: JarStore, repository: RecordingRepository, messages: list[str]
) -> None:
    jar = store.directory / "one-1.0.jar"
    jar.write_bytes(b"FIRST")
    os.utime(jar, (jars.VERIFIED_MTIME, jars.VERIFIED_MTIME))
    store.ensure(messages.append)
    assert repository.asked == []

    store.ensure(messages.append, verify=True)

    assert repository.asked == ["one"]


def test_uncreatable_folder_is_reported_in_one_line(tmp_path: Path, repository: RecordingRepository) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SetupError, match=r"cache directory .* XDG_CACHE_HOME") as error:
        JarStore(tmp_path / "file" / "kafka", LIST).ensure(lambda _: None)
    assert "\n" not in str(error.value)
    assert repository.asked == []


def test_jar_list_names_each_jar_once_with_a_complete_checksum() -> None:
    names = [jar.filename for jar in jars.load_jar_list()]
    assert len(names) == len(set(names)) > 30
    assert all(len(jar.sha256) == 64 and jar.size > 0 for jar in jars.load_jar_list())
    assert "kafka_2.13-4.3.1.jar" in names


def test_cache_directory_follows_the_xdg_convention(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert jars.cache_directory() == tmp_path / "poise"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert jars.cache_directory() == tmp_path / ".cache" / "poise"
