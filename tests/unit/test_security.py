"""Security settings: contradictions are refused with a reason, and secrets are never printed."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from poise.errors import SetupError
from poise.kafka.connection import Connection
from poise.security import Security
from poise.settings import MeshSettings

SASL = {"MECHANISM": "PLAIN", "USERNAME": "alice", "PASSWORD": "sesame"}


def load(monkeypatch: pytest.MonkeyPatch, **given: str) -> MeshSettings:
    for name, value in given.items():
        monkeypatch.setenv(f"POISE_SECURITY__{name}", value)
    return MeshSettings.load()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"PROTOCOL": "TLS"}, "POISE_SECURITY__PROTOCOL: Input should be 'PLAINTEXT', 'SSL'"),
        ({"PROTOCL": "SSL"}, "POISE_SECURITY__PROTOCL: Extra inputs are not permitted"),
        ({"CHECK_HOSTNAME": "no"}, "check_hostname would not be used by protocol PLAINTEXT: choose SSL or SASL_SSL"),
        ({"PROTOCOL": "SASL_SSL"}, "protocol SASL_SSL needs mechanism, password, username too"),
        ({"PROTOCOL": "SASL_SSL", **SASL, "MECHANISM": "GSSAPI"}, "POISE_SECURITY__MECHANISM: Input should be 'PLAIN'"),
        ({"PROTOCOL": "SASL_PLAINTEXT", **SASL, "PASSWORD": ""}, "POISE_SECURITY__PASSWORD: "),
        (SASL, "mechanism, password, username would not be used by protocol PLAINTEXT: choose SASL_SSL"),
        ({"PROTOCOL": "SSL", **SASL}, "mechanism, password, username would not be used by protocol SSL"),
        ({"PROTOCOL": "SSL", "KEY_PASSWORD": "x"}, "key_password has no effect without cert_file"),
        ({"PROTOCOL": "SSL", "CA_FILE": "nowhere/ca.pem"}, "POISE_SECURITY__CA_FILE: .*no file nowhere/ca.pem"),
        ({"PROTOCOL": "SSL", "CERT_FILE": "mine.pem"}, "POISE_SECURITY__CERT_FILE: .*no file mine.pem"),
    ],
)
def test_contradictory_settings_are_refused(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], message: str
) -> None:
    with pytest.raises(SetupError, match=message) as error:
        load(monkeypatch, **given)
    assert "sesame" not in str(error.value)


def test_the_default_connection_is_plaintext(monkeypatch: pytest.MonkeyPatch) -> None:
    connection = Connection.of(load(monkeypatch))
    assert connection.client_options()["security_protocol"] == "PLAINTEXT"
    assert connection.faststream_security() is None


def test_settings_from_file_and_environment_are_merged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "poise.toml").write_text(
        '[mesh.security]\nprotocol = "SASL_SSL"\nmechanism = "SCRAM-SHA-512"\nusername = "alice"\n', encoding="utf-8"
    )
    monkeypatch.setenv("POISE_CONFIG", str(tmp_path / "poise.toml"))
    options = Connection.of(load(monkeypatch, PASSWORD=SASL["PASSWORD"])).client_options()
    assert (options["security_protocol"], options["sasl_mechanism"]) == ("SASL_SSL", "SCRAM-SHA-512")
    assert (options["sasl_plain_username"], options["sasl_plain_password"]) == ("alice", "sesame")
    assert options["ssl_context"].check_hostname


def test_the_documentation_lists_each_setting() -> None:
    page = (Path(__file__).parents[2] / "docs" / "RUNNING.md").read_text(encoding="utf-8")
    named = [line.split("`")[1] for line in page.splitlines() if line.startswith("| `POISE_SECURITY__")]
    assert named == [f"POISE_SECURITY__{name.upper()}" for name in Security.model_fields]


def test_no_secret_is_printed() -> None:
    security = Security(protocol="SASL_SSL", mechanism="PLAIN", username="alice", password=SecretStr("sesame"))
    settings = MeshSettings(security=security)
    connection = Connection.of(settings)
    assert (
        "sesame" not in f"{settings!r} {settings} {connection!r} {settings.model_dump_json()} {settings.model_dump()}"
    )
