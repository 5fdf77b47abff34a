"""The integration tier's settings: what is rejected, and that secrets are never shown."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from poise.errors import SetupError
from poise.settings import MeshSettings
from poise_services.integration.settings import Api, IntegrationSettings

FILE = """
[integration.integrations.weather]
url = "https://weather.example/v1?q={question}&key={key}"
headers = {Authorization = "Bearer {token}", Accept = "application/json"}
secrets = {key = "k-1", token = "t-1"}
pointer = "/today/text"
source = "The weather office"
stale_if_error = 600

[integration.integrations.search]
url = "http://127.0.0.1:1/search"
method = "POST"
body = {query = {text = "{question}", words = ["{question}", "now"]}, limit = 3}
"""


def test_integrations_from_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "poise.toml"
    file.write_text(FILE)
    monkeypatch.setenv("POISE_CONFIG", str(file))
    monkeypatch.setenv("POISE_INTEGRATION_INTEGRATIONS__WEATHER__SECRETS__KEY", "k-2")
    settings = IntegrationSettings.load()
    weather, search = settings.integrations["weather"], settings.integrations["search"]
    assert weather.parameters == search.parameters == {"question"}
    assert weather.resolved_headers() == {"Authorization": "Bearer t-1", "Accept": "application/json"}
    assert weather.secret_values() == {"key": "k-2", "token": "t-1"}
    assert (weather.address, search.address) == ("weather.example:443", "127.0.0.1:1")
    assert not {"k-1", "k-2", "t-1"} & set(repr(settings).replace("'", " ").split())
    assert set(weather.redacted_values()) == {"k-2", "t-1", "Bearer t-1", "Bearer%20t-1"}


def test_without_an_integration_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POISE_INTEGRATION_INTEGRATIONS", raising=False)
    monkeypatch.delenv("POISE_CONFIG", raising=False)
    with pytest.raises(SetupError, match=r"POISE_INTEGRATION_INTEGRATIONS: .*no integration is configured"):
        IntegrationSettings.load()


def test_a_process_ignores_the_tables_of_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "poise.toml"
    file.write_text(FILE)
    monkeypatch.setenv("POISE_CONFIG", str(file))
    assert MeshSettings.load().tenant == "default"


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"url": "ftp://host/"}, "http://host"),
        ({"url": "https://"}, "http://host"),
        ({"url": "https://{host}/"}, "no parameter"),
        ({"url": "https://me:secret@host/"}, "no user"),
        ({"url": "https://host/#x"}, "fragment"),
        ({"url": "https://host/", "body": {}}, "POST"),
        ({"url": "https://host/", "pointer": "today"}, "RFC 6901"),
        ({"url": "https://host/", "headers": {"X": "{question}"}}, "question must be in secrets"),
        ({"url": "https://host/", "secrets": {"a b": "x"}}, "pattern"),
        ({"url": "https://host/", "retries": 3}, "Extra inputs"),
        (
            {"url": "https://host/", "headers": {"X-Key": "{k}"}, "secrets": {"k": "secret@\n"}},
            "X-Key must be printable",
        ),
        ({"url": "https://host/", "headers": {"X-Key": "secret@é"}}, "X-Key must be printable"),
    ],
)
def test_inconsistent_settings_are_rejected(given: dict[str, object], why: str) -> None:
    with pytest.raises(ValidationError, match=why) as caught:
        Api.model_validate(given)
    assert "secret@" not in str(caught.value)
