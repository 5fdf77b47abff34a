"""The draw secret: its source and its permissions. It is never shown."""

import logging
import stat
import threading
from pathlib import Path

import pytest
from pydantic import SecretStr

from poise.errors import SetupError
from poise.settings import MeshSettings
from poise_services.orchestration import draw_secret
from poise_services.orchestration.active_policy import PolicyFollower
from poise_services.orchestration.draw_secret import load_secret
from poise_services.orchestration.settings import OrchestrationSettings

GIVEN = "a secret that was given"


def mesh_of(folder: Path, *, shared: bool = True) -> MeshSettings:
    return MeshSettings(state_dir=folder / "state" / "one", shared_dir=folder if shared else None)


def test_the_file_is_created_once_private_and_shared_within_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    found: list[bytes] = []

    def read() -> None:
        found.append(load_secret(OrchestrationSettings(), mesh_of(folder)))

    workers = [threading.Thread(target=read) for _ in range(20)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(found) == 20
    assert len(set(found)) == 1
    assert len(found[0]) == 64
    assert [path.name for path in folder.iterdir()] == ["draw.secret"]
    assert stat.S_IMODE((folder / "draw.secret").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_without_a_shared_folder_the_file_is_in_the_state_folder(tmp_path: Path) -> None:
    made = load_secret(OrchestrationSettings(), mesh_of(tmp_path, shared=False))
    assert (tmp_path / "state" / "one" / "draw.secret").read_text().strip().encode() == made


def test_the_setting_precedes_the_named_file(tmp_path: Path) -> None:
    file = tmp_path / "elsewhere"
    file.write_text(f"{GIVEN} in a file\n")
    named = OrchestrationSettings(draw_secret_file=file)
    assert load_secret(named, mesh_of(tmp_path)) == f"{GIVEN} in a file".encode()
    both = OrchestrationSettings(draw_secret_file=file, draw_secret=SecretStr(GIVEN))
    assert load_secret(both, mesh_of(tmp_path)) == GIVEN.encode()
    assert not (tmp_path / "draw.secret").exists()


def test_a_short_or_unreadable_secret_is_rejected(tmp_path: Path) -> None:
    mesh = mesh_of(tmp_path)
    with pytest.raises(SetupError, match="DRAW_SECRET is too short for a secret"):
        load_secret(OrchestrationSettings(draw_secret=SecretStr("")), mesh)
    with pytest.raises(SetupError, match=r"cannot be read from .*nowhere"):
        load_secret(OrchestrationSettings(draw_secret_file=tmp_path / "nowhere"), mesh)
    (tmp_path / "draw.secret").write_text("")
    with pytest.raises(SetupError, match="is too short for a secret"):
        load_secret(OrchestrationSettings(), mesh)
    (tmp_path / "file").touch()
    with pytest.raises(SetupError, match=r"cannot be stored in .* set POISE_ORCHESTRATION_DRAW_SECRET"):
        load_secret(OrchestrationSettings(), MeshSettings(shared_dir=tmp_path / "file"))


def test_the_secret_appears_in_no_repr_and_no_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger=draw_secret.__name__)
    monkeypatch.setenv("POISE_ORCHESTRATION_DRAW_SECRET", GIVEN)
    settings = OrchestrationSettings.load()
    secret = load_secret(settings, mesh_of(tmp_path))
    made = load_secret(OrchestrationSettings(draw_secret=None), mesh_of(tmp_path))
    policy = PolicyFollower(settings, secret).current
    told = f"{settings!r} {settings} {settings.model_dump_json()} {policy!r} {caplog.text}"
    assert secret == GIVEN.encode()
    assert GIVEN not in told
    assert made.decode() not in told
    assert "draw.secret" in caplog.text


def test_a_file_readable_by_others_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "elsewhere"
    file.write_text(GIVEN)
    settings = OrchestrationSettings(draw_secret_file=file)
    for mode, told in ((0o600, False), (0o640, False), (0o644, True)):
        caplog.clear()
        file.chmod(mode)
        assert load_secret(settings, mesh_of(tmp_path)) == GIVEN.encode()
        assert ("change it to 600" in caplog.text) is told
