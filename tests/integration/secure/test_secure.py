"""TLS and SASL settings against a broker that requires them."""

import logging
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from integration_kit import serving
from secure_kit import KEY_PASSWORD, PASSWORD, USER, SecureBroker, secure_broker

from poise.client import Poise
from poise.contracts import Answer, Ask, Completion, Generate
from poise.contracts.generate import ChatMessage
from poise.contracts.topics import SPANS
from poise.errors import SetupError
from poise.kafka import topic_setup
from poise.security import Security
from poise.settings import MeshSettings
from poise.stack import external
from poise.stack.options import ExternalServices
from poise.worker.context import Context
from poise.worker.runtime import WorkerRuntime
from poise.worker.tier import Tier

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def broker(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SecureBroker]:
    async with secure_broker(tmp_path_factory.mktemp("secure")) as broker:
        yield broker


def by_certificate(broker: SecureBroker, address: str | None = None, **other: Any) -> MeshSettings:
    given = {
        "protocol": "SSL",
        "ca_file": broker.ca,
        "cert_file": broker.cert,
        "key_file": broker.key,
        "key_password": KEY_PASSWORD,
    }
    return MeshSettings(broker=address or broker.tls, security=Security.model_validate(given | other))


def by_password(broker: SecureBroker, mechanism: str = "SCRAM-SHA-512", **other: Any) -> MeshSettings:
    given = {
        "protocol": "SASL_SSL",
        "ca_file": broker.ca,
        "mechanism": mechanism,
        "username": USER,
        "password": PASSWORD,
    }
    return MeshSettings(broker=broker.sasl, security=Security.model_validate(given | other))


async def think(request: Generate, _context: Context) -> Completion:
    return Completion(text=request.messages[-1].content, model="m", backend="b", finish_reason="stop")


async def answer(ask: Ask, context: Context) -> Answer:
    generate = Generate(messages=(ChatMessage(role="user", content=ask.question),))
    reply = await context.call(generate, step="generate")
    return Answer(run_id=context.run, text=reply.text, rung="primary")


async def ask_through_two_tiers(settings: MeshSettings) -> str:
    """Send an ask from a client to orchestration, on to inference, and back; then read a whole topic."""
    async with (
        serving(settings, Tier("orchestration", {Ask: answer})) as mesh,
        serving(settings, Tier("inference", {Generate: think})),
        Poise(settings=settings) as client,
    ):
        reply = await client.ask("who goes there?")
        await mesh.logs.read_topic(SPANS.name)
    return reply.text


async def test_a_client_certificate(broker: SecureBroker) -> None:
    assert await ask_through_two_tiers(by_certificate(broker)) == "who goes there?"


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"])
async def test_a_password(broker: SecureBroker, mechanism: str) -> None:
    assert await ask_through_two_tiers(by_password(broker, mechanism)) == "who goes there?"


async def test_a_mismatched_host_name_is_accepted_without_check_hostname(broker: SecureBroker) -> None:
    await topic_setup.apply(by_certificate(broker, broker.misnamed, check_hostname=False))


async def test_settings_from_the_environment(broker: SecureBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "BROKER": broker.sasl,
        "SECURITY__PROTOCOL": "SASL_SSL",
        "SECURITY__CA_FILE": str(broker.ca),
        "SECURITY__MECHANISM": "SCRAM-SHA-256",
        "SECURITY__USERNAME": USER,
        "SECURITY__PASSWORD": PASSWORD,
    }.items():
        monkeypatch.setenv(f"POISE_{name}", value)
    await topic_setup.apply(MeshSettings.load())
    await external.check(ExternalServices(broker=broker.sasl))


async def refused(settings: MeshSettings) -> str:
    """Return the error with which a process ends; check that it is one line, and print how long it took."""
    began = time.monotonic()
    with pytest.raises(SetupError) as error:
        async with WorkerRuntime(settings, tier="client"):
            raise AssertionError
    print(f"refused after {time.monotonic() - began:.2f} s: {error.value}")  # noqa: T201 - a figure for the reader
    assert "\n" not in str(error.value)
    return str(error.value)


async def test_a_wrong_password(broker: SecureBroker, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for mechanism in ("SCRAM-SHA-512", "PLAIN"):
        message = await refused(by_password(broker, mechanism, password="let me in"))  # noqa: S106 - a wrong one
        assert f"it refuses {mechanism} user 'alice': correct POISE_SECURITY__USERNAME" in message
        assert "let me in" not in caplog.text + message


async def test_an_untrusted_broker_certificate(broker: SecureBroker) -> None:
    message = await refused(by_certificate(broker, ca_file=broker.other_ca))
    assert "its certificate is not accepted" in message
    assert "POISE_SECURITY__CA_FILE" in message


async def test_a_broker_certificate_for_another_host(broker: SecureBroker) -> None:
    message = await refused(by_certificate(broker, broker.misnamed))
    assert "its certificate is not accepted" in message
    assert "127.0.0.1" in message


async def test_a_missing_client_certificate(broker: SecureBroker) -> None:
    settings = MeshSettings(broker=broker.tls, security=Security(protocol="SSL", ca_file=broker.ca))
    assert "require a client certificate (POISE_SECURITY__CERT_FILE)" in await refused(settings)


@pytest.mark.parametrize("listener", ["tls", "sasl"])
async def test_plaintext_to_a_tls_listener(broker: SecureBroker, listener: str) -> None:
    message = await refused(MeshSettings(broker=getattr(broker, listener)))
    assert "it closes the connection: POISE_SECURITY__PROTOCOL is PLAINTEXT, does the broker require TLS" in message


async def test_tls_to_a_plaintext_listener(broker: SecureBroker, kafka: str) -> None:
    message = await refused(by_certificate(broker, kafka))
    assert "POISE_SECURITY__PROTOCOL is SSL, does the broker speak TLS" in message


async def test_a_password_to_a_listener_without_authentication(kafka: str) -> None:
    security = Security(protocol="SASL_PLAINTEXT", mechanism="PLAIN", username="a", password="b")  # noqa: S106
    message = await refused(MeshSettings(broker=kafka, security=security))
    assert "it does not ask for a password: POISE_SECURITY__PROTOCOL is SASL_PLAINTEXT" in message


async def test_an_unreadable_key_or_certificate(broker: SecureBroker, tmp_path: Path) -> None:
    for wrong in ({"key_password": "else"}, {"key_password": None}, {"key_file": broker.ca}):
        assert "client.pem and " in await refused(by_certificate(broker, **wrong))
    (tmp_path / "no.pem").write_text("nothing", encoding="utf-8")
    assert "no.pem holds no certificates" in await refused(by_certificate(broker, ca_file=tmp_path / "no.pem"))


async def test_poise_up_needs_an_external_broker_for_security_settings(
    broker: SecureBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POISE_SECURITY__PROTOCOL", "SSL")
    with pytest.raises(SetupError, match="POISE_SECURITY__PROTOCOL is SSL, but the stack's own Kafka"):
        await external.check(ExternalServices())
    with pytest.raises(SetupError, match="its certificate is not accepted"):
        await external.check(ExternalServices(broker=broker.tls))
