"""The options of a stack: which are accepted and which are rejected."""

import os
from pathlib import Path

import pytest

from poise.errors import SetupError
from poise.stack.options import (
    INTEGRATIONS_VARIABLE,
    ONE_WORKER_PER_TIER,
    ExternalServices,
    StackOptions,
    parse_custom_tiers,
    parse_workers,
)


@pytest.fixture(autouse=True)
def _nothing_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(INTEGRATIONS_VARIABLE) or name == "POISE_CONFIG"]:
        monkeypatch.delenv(name)


def test_unnamed_tiers_have_one_worker() -> None:
    workers = parse_workers("inference=3, retrieval=0")

    assert workers == {**ONE_WORKER_PER_TIER, "retrieval": 0, "inference": 3, "integration": 0}


@pytest.mark.parametrize("text", ["", " ", ","])
def test_empty_option_starts_one_worker_of_each_configured_tier(text: str) -> None:
    assert parse_workers(text) == StackOptions().workers == {**ONE_WORKER_PER_TIER, "integration": 0}


@pytest.mark.parametrize("variable", [INTEGRATIONS_VARIABLE, f"{INTEGRATIONS_VARIABLE}__weather__url"])
def test_integration_in_the_environment_starts_a_worker(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "…")
    assert parse_workers("")["integration"] == 1
    assert parse_workers("integration=3")["integration"] == 3


def test_integration_in_the_config_file_starts_a_worker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "poise.toml"
    monkeypatch.setenv("POISE_CONFIG", str(file))
    with pytest.raises(SetupError, match=r"poise\.toml, which cannot be read"):
        parse_workers("")
    file.write_text('[orchestration]\nintegrations = ["weather"]\n')
    assert parse_workers("")["integration"] == 0
    file.write_text('[integration.integrations.weather]\nurl = "https://weather.example/?q={question}"\n')
    assert parse_workers("")["integration"] == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("inferense=3", "no tier 'inferense'"),
        ("inference=-1", "inference=3,retrieval=2"),
        ("inference=many", "inference=3,retrieval=2"),
        ("inference", "inference=3,retrieval=2"),
        ("=3", "no tier ''"),
    ],
)
def test_invalid_workers_option_is_rejected_in_one_line(text: str, says: str) -> None:
    with pytest.raises(SetupError, match=says) as refusal:
        parse_workers(text)
    assert "\n" not in str(refusal.value)


def test_external_model_server_requires_a_model_name() -> None:
    with pytest.raises(SetupError, match="--model-name"):
        StackOptions(external=ExternalServices(model_url="http://127.0.0.1:1"))


def test_stack_options_reject_an_unknown_tier() -> None:
    with pytest.raises(SetupError, match="no tier 'poetry'"):
        StackOptions(workers={"poetry": 1})


def test_custom_tiers_are_parsed_from_their_files(tmp_path: Path) -> None:
    one, two = tmp_path / "one.py", tmp_path / "two.py"
    one.touch()
    two.touch()
    assert parse_custom_tiers([f"{one}=2", f"{two}:mine", f"{one}:other=3"]) == {
        str(one): 2,
        f"{two}:mine": 1,
        f"{one}:other": 3,
    }


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{}/one.py=", "write FILE.py=2"),
        ("{}/one.py=-1", "write FILE.py=2"),
        ("{}/none.py", "there is no file"),
        ("{}/a b.py", "give a Python file"),
        ("{}/one.txt", "give a Python file"),
    ],
)
def test_invalid_custom_tiers_option_is_rejected_in_one_line(tmp_path: Path, text: str, says: str) -> None:
    for name in ("one.py", "a b.py", "one.txt"):
        (tmp_path / name).touch()
    with pytest.raises(SetupError, match=says) as refusal:
        parse_custom_tiers([text.format(tmp_path)])
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("own", [{"a/one.py": 1, "b/one.py": 1}, {"inference.py": 1}])
def test_custom_tiers_with_the_same_name_are_rejected(own: dict[str, int]) -> None:
    with pytest.raises(SetupError, match="two tiers have the name"):
        StackOptions(custom_tiers=own)
