"""Renamed and removed settings are refused wherever the old name can occur, and the error says what to set instead."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, get_args, get_origin

import pytest
from pydantic import BaseModel

from poise.config.renamed import removed_fields, renamed_fields
from poise.errors import SetupError
from poise.settings import MeshSettings, Settings
from poise_services.evaluation.settings import EvaluationSettings
from poise_services.gateway.settings import GatewaySettings
from poise_services.inference.settings import InferenceSettings
from poise_services.integration.settings import IntegrationSettings
from poise_services.orchestration.settings import OrchestrationSettings
from poise_services.retrieval.settings import RetrievalSettings

SETTINGS: tuple[type[Settings], ...] = (
    MeshSettings,
    GatewaySettings,
    OrchestrationSettings,
    InferenceSettings,
    IntegrationSettings,
    RetrievalSettings,
    EvaluationSettings,
)
Keys = tuple[str | int, ...]


def models_of(annotation: Any, path: Keys = ()) -> Iterator[tuple[type[BaseModel], Keys]]:
    """Yield each model in the type of a setting, with the keys that lead to it."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, path
        for name, field in annotation.model_fields.items():
            yield from models_of(field.annotation, (*path, name))
        return
    for argument in get_args(annotation):
        keys: dict[Any, Keys] = {tuple: (0,), list: (0,), dict: ("some",)}
        key = keys.get(get_origin(annotation), ())
        yield from models_of(argument, (*path, *key))


class Renamed(NamedTuple):
    settings: type[Settings]
    path: Keys
    """The keys that lead to its model."""
    old: str
    new: str

    def __str__(self) -> str:
        return ".".join(map(str, (self.settings.table, *self.path, self.old)))


RENAMED = [
    Renamed(settings, path, old, new)
    for settings in SETTINGS
    for model, path in models_of(settings)
    for old, new in renamed_fields(model).items()
]


@pytest.fixture(autouse=True)
def _without_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POISE_CONFIG", raising=False)


def nested(path: Keys, value: object) -> Any:
    """Return a value nested under its keys, as in TOML and JSON."""
    for key in reversed(path):
        value = [value] if key == 0 else {key: value}
    return value


def variable_of(settings: type[Settings], *names: str | int) -> str:
    return (settings.model_config["env_prefix"] + "__".join(map(str, names))).upper()


def test_each_renamed_setting_maps_an_unused_name_to_an_existing_setting() -> None:
    for settings in SETTINGS:
        for model, _ in models_of(settings):
            renamed = renamed_fields(model)
            assert not renamed.keys() & model.model_fields.keys()
            assert set(renamed.values()) <= model.model_fields.keys()


@pytest.mark.parametrize("written", [str.upper, str.lower])
@pytest.mark.parametrize("case", [case for case in RENAMED if 0 not in case.path], ids=str)  # arrays have no variables
def test_a_variable_with_the_old_name_is_refused(
    monkeypatch: pytest.MonkeyPatch, case: Renamed, written: Callable[[str], str]
) -> None:
    variable = written(variable_of(case.settings, *case.path, case.old))
    monkeypatch.setenv(variable, "1")
    new = variable_of(case.settings, *case.path, case.new)
    with pytest.raises(SetupError, match=f"{variable} was renamed: set {new}$"):
        case.settings.load()


@pytest.mark.parametrize("case", [case for case in RENAMED if case.path], ids=str)
def test_a_json_value_with_the_old_name_is_refused(monkeypatch: pytest.MonkeyPatch, case: Renamed) -> None:
    variable, path = variable_of(case.settings, case.path[0]), (*case.path[1:], case.old)
    monkeypatch.setenv(variable, json.dumps(nested(path, 1)))
    with pytest.raises(SetupError) as error:
        case.settings.load()
    said = f"{variable}: {'.'.join(map(str, path))} was renamed: set {case.new}"
    assert str(error.value) == f"settings refused: {said}"


@pytest.mark.parametrize("case", RENAMED, ids=str)
def test_the_old_name_in_the_file_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, case: Renamed) -> None:
    table = ".".join(map(str, (case.settings.table, *(key for key in case.path if key != 0))))
    header = f"[[{table}]]" if 0 in case.path else f"[{table}]"
    (tmp_path / "poise.toml").write_text(f"{header}\n{case.old} = 1", encoding="utf-8")
    monkeypatch.setenv("POISE_CONFIG", str(tmp_path / "poise.toml"))
    with pytest.raises(SetupError) as error:
        case.settings.load()
    where = ".".join(map(str, (case.settings.table, *case.path)))
    assert str(error.value) == f"{tmp_path}/poise.toml: [{where}] {case.old} was renamed: set {case.new}"


def test_all_old_names_are_reported_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POISE_LEASE", "1")
    monkeypatch.setenv("poise_lease", "2")
    with pytest.raises(SetupError, match=r"POISE_LEASE was renamed.*; poise_lease was renamed"):
        MeshSettings.load()


REMOVAL = (
    "it left the passages out of the prompt, as the fault of `poise balance`; delete it. `poise balance` makes this"
    " fault in its own model proxy"
)


def test_a_json_value_with_a_removed_setting_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POISE_ORCHESTRATION_VARIANTS", '[{"name": "a"}, {"name": "b", "without_passages": 0.7}]')
    with pytest.raises(SetupError) as error:
        OrchestrationSettings.load()
    setting = "POISE_ORCHESTRATION_VARIANTS: 1.without_passages"
    assert str(error.value) == f"settings refused: {setting} was removed: {REMOVAL}"


def test_a_removed_setting_in_the_file_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "poise.toml"
    path.write_text('[[orchestration.variants]]\nname = "a"\nwithout_passages = 0.7\n', encoding="utf-8")
    monkeypatch.setenv("POISE_CONFIG", str(path))
    with pytest.raises(SetupError) as error:
        OrchestrationSettings.load()
    assert str(error.value) == f"{path}: [orchestration.variants.0] without_passages was removed: {REMOVAL}"


def test_a_variable_of_a_removed_setting_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Removing(Settings):
        removed: ClassVar[Mapping[str, str]] = {"colour": "it coloured the log; delete it"}

    monkeypatch.setenv("POISE_COLOUR", "red")
    with pytest.raises(SetupError) as error:
        Removing.load()
    assert str(error.value) == "settings refused: POISE_COLOUR was removed: it coloured the log; delete it"


def test_no_removed_setting_exists() -> None:
    for settings in SETTINGS:
        for model, _ in models_of(settings):
            assert not removed_fields(model).keys() & (model.model_fields.keys() | renamed_fields(model).keys())


def test_invalid_json_value_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POISE_ORCHESTRATION_VARIANTS", '[{"price_in": ')
    with pytest.raises(SetupError, match="variants"):
        OrchestrationSettings.load()
