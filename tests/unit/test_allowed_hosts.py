"""AllowedHosts: names of this machine and configured names are allowed, names of a web page are not."""

import pytest
from pydantic import ValidationError

from poise.allowed_hosts import AllowedHosts
from poise_services.gateway.settings import GatewaySettings


@pytest.mark.parametrize("bind", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("localhost:8080", True),
        ("LOCALHOST", True),
        ("localhost.", True),
        ("127.0.0.1:8080", True),
        ("[::1]:8080", True),
        ("[::1]", True),
        (None, True),
        ("", False),
        ("evil.example", False),
        ("evil.example:8080", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("localhost@evil.example", False),
        ("203.0.113.7", False),
        ("[2001:db8::1]:80", False),
        ("[::1", False),
        ("localhost:80:evil.example", False),
        ("localhost:", True),
        ("[::1].evil.example", False),
        ("[::1]evil", False),
        ("[::1]:80.evil.example", False),
        ("ours.example", True),
        ("OURS.example.:443", True),
    ],
)
def test_on_loopback_local_and_configured_names_are_allowed(bind: str, host: str | None, *, allowed: bool) -> None:
    assert AllowedHosts(bind, ["ours.example"]).allow(host) is allowed


def test_the_interface_itself_is_allowed() -> None:
    assert AllowedHosts("127.0.0.2").allow("127.0.0.2:8080")
    assert not AllowedHosts("127.0.0.2").allow("127.0.0.3:8080")


@pytest.mark.parametrize("bind", ["0.0.0.0", "::", "203.0.113.7", "gateway.internal"])  # noqa: S104 - nothing listens
def test_elsewhere_addresses_are_allowed_and_any_name_if_none_is_configured(bind: str) -> None:
    assert AllowedHosts(bind).allow("gateway:8080")
    named = AllowedHosts(bind, ["gateway"])
    assert [host for host in ("gateway:80", "10.0.0.7:80", "[fd00::7]:80", "localhost") if not named.allow(host)] == []
    assert not named.allow("evil.example")
    assert AllowedHosts(bind, ["*"]).allow("evil.example")


def test_the_setting_is_a_comma_separated_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POISE_GATEWAY_ALLOWED_HOSTS", "gateway, poise.example ,")
    assert GatewaySettings().allowed_hosts == ("gateway", "poise.example")
    with pytest.raises(ValidationError):
        GatewaySettings.model_validate({"allowed_hosts": 7})
