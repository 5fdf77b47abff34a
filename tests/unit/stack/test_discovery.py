from pathlib import Path

import pytest

from poise.errors import SetupError
from poise.stack import state
from poise.stack.discovery import resolve_settings
from poise.stack.state import StackState


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("POISE_BROKER", "POISE_CONFIG", "POISE_STATE_DIR"):
        monkeypatch.delenv(name, raising=False)


def stack(*, ready: bool = True, broker: str | None = "127.0.0.1:5001") -> StackState:
    return StackState(pid=1, ready=ready, since=0.0, broker=broker)


def test_broker_option_takes_precedence_over_all_other_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POISE_BROKER", "env:1")
    with state.lock(Path(".poise")):
        state.write_state(Path(".poise"), stack())
        assert resolve_settings("given:1").broker == "given:1"


def test_environment_takes_precedence_over_the_running_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POISE_BROKER", "env:1")
    with state.lock(Path(".poise")):
        state.write_state(Path(".poise"), stack())
        assert resolve_settings().broker == "env:1"


def test_config_file_takes_precedence_over_the_default_port(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("poise.toml").write_text('[mesh]\nbroker = "file:1"\n', encoding="utf-8")
    monkeypatch.setenv("POISE_CONFIG", "poise.toml")
    assert resolve_settings().broker == "file:1"


def test_running_stack_takes_precedence_over_the_default_port() -> None:
    with state.lock(Path(".poise")):
        state.write_state(Path(".poise"), stack())
        assert resolve_settings().broker == "127.0.0.1:5001"


def test_stopped_stack_is_ignored() -> None:
    with state.lock(Path(".poise")):
        state.write_state(Path(".poise"), stack())
    assert resolve_settings().broker == "127.0.0.1:9092"


def test_starting_stack_is_reported() -> None:
    with state.lock(Path(".poise")):
        state.write_state(Path(".poise"), stack(ready=False))
        with pytest.raises(SetupError, match=r"still starting.*poise status"):
            resolve_settings()


def test_default_port_is_the_last_choice() -> None:
    assert resolve_settings().broker == "127.0.0.1:9092"


@pytest.mark.parametrize("broker", ["", " ,", ":9092", "host:", "host:x", "host:0", "host:70000", "a:1,b:x"])
def test_invalid_broker_address_is_rejected(broker: str) -> None:
    with pytest.raises(SetupError, match="no address of a broker"):
        resolve_settings(broker)


@pytest.mark.parametrize("broker", ["host", "host:9092", "a:1, b:2", "[::1]:9092"])
def test_valid_broker_address_is_accepted(broker: str) -> None:
    assert resolve_settings(broker).broker == broker


def test_copied_settings_connect_to_their_new_broker() -> None:
    found = resolve_settings("a:1")
    assert found.bootstrap == ["a:1"]
    assert found.model_copy(update={"broker": "b:2"}).bootstrap == ["b:2"]
