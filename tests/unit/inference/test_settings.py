"""The inference tier's settings: read from the environment or a file, rejected with a reason, secrets never shown."""

from pathlib import Path

import pytest

from poise.errors import SetupError
from poise_services.inference.settings import Backend, InferenceSettings

VARIABLE = "POISE_INFERENCE_BACKENDS"


def test_backends_from_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, '{"default": {"url": "http://127.0.0.1:8080", "model": "m"}}')
    assert InferenceSettings.load().backends["default"].model == "m"


def test_backends_from_nested_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{VARIABLE}__small__URL", "http://127.0.0.1:8080")
    monkeypatch.setenv(f"{VARIABLE}__small__MODEL", "m")
    assert InferenceSettings.load().backends["small"].concurrency == 8


def test_backends_from_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "poise.toml"
    path.write_text('[inference.backends.default]\nurl = "http://127.0.0.1:8080"\nmodel = "m"\ntimeout = 7\n')
    monkeypatch.setenv("POISE_CONFIG", str(path))
    assert InferenceSettings.load().backends["default"].timeout == 7


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("{}", "no model server is configured"),
        ('{"a": ', "cannot be read"),
        ('{"a": {"url": "http://h"}}', "POISE_INFERENCE_BACKENDS__A__MODEL: Field required"),
        ('{"a": {"url": "nowhere", "model": "m"}}', "POISE_INFERENCE_BACKENDS__A__URL"),
        ('{"a": {"url": "http://u:p@h", "model": "m"}}', "put the secret into api_key"),
        ('{"a": {"url": "http://h/v1?key=1", "model": "m"}}', "must not have a query"),
        ('{"a": {"url": "http://h", "model": "m", "colour": 1}}', "POISE_INFERENCE_BACKENDS__A__COLOUR"),
        ('{"a b": {"url": "http://h", "model": "m"}}', "should match pattern"),
        ('{"a": {"url": "http://h", "model": "m", "concurrency": 0}}', "CONCURRENCY"),
    ],
)
def test_invalid_settings_are_rejected_with_the_reason(monkeypatch: pytest.MonkeyPatch, value: str, says: str) -> None:
    monkeypatch.setenv(VARIABLE, value)
    with pytest.raises(SetupError, match=says):
        InferenceSettings.load()


def test_without_a_backend_the_error_says_how_to_configure_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(SetupError, match="no model server is configured: set it to"):
        InferenceSettings.load()


def test_a_key_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, '{"a": {"url": "http://h", "model": "m", "api_key": "sk-secret"}}')
    assert "sk-secret" not in repr(InferenceSettings.load())
    monkeypatch.setenv(VARIABLE, '{"a": {"url": "http://h", "model": 1, "api_key": {"key": "sk-secret"}}}')
    with pytest.raises(SetupError) as caught:
        InferenceSettings.load()
    assert "sk-secret" not in f"{caught.value} {caught.value.__cause__}"


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080/v1/chat/completions"),
        ("http://127.0.0.1:8080/", "http://127.0.0.1:8080/v1/chat/completions"),
        ("https://models.example/v1", "https://models.example:443/v1/chat/completions"),
        ("https://models.example/openai/v1/", "https://models.example:443/openai/v1/chat/completions"),
        ("http://[::1]:8080", "http://[::1]:8080/v1/chat/completions"),
    ],
)
def test_the_endpoint_follows_from_the_base_address(url: str, endpoint: str) -> None:
    assert Backend.model_validate({"url": url, "model": "m"}).endpoint == endpoint
