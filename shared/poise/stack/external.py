"""External services: check that they answer before the stack starts anything that depends on them."""

import asyncio
import contextlib
from collections.abc import Awaitable
from typing import Final
from urllib.parse import SplitResult, urlsplit

from poise.errors import SetupError
from poise.settings import MeshSettings
from poise.stack import probe
from poise.stack.options import ExternalServices
from poise.text.error_text import error_message

PROBE_TIMEOUT: Final = 5.0
"""Seconds for each service to answer."""

CONNECT_TIMEOUT: Final = 15.0
"""Seconds for a broker with TLS or SASL: a refused connection is made twice, to find the reason."""

_KAFKA_PORT: Final = 9092
_REDIS_PORT: Final = 6379


async def check(services: ExternalServices) -> None:
    """Check that every external service answers.

    Raises:
        SetupError: One does not; the message says which and what to do.
    """
    settings = MeshSettings.load()
    if services.broker is None:
        _refuse_security(settings)
    elif settings.security.protocol == "PLAINTEXT":
        await _check_broker(services.broker)
    else:
        await _check_secure_broker(settings.model_copy(update={"broker": services.broker}))
    if services.redis_url is not None:
        await _check_redis(services.redis_url)
    if services.model_url is not None:
        await _check_model(services.model_url)


async def _check_broker(servers: str) -> None:
    why = "no address is given"
    for server in filter(None, (part.strip() for part in servers.split(","))):
        parts = _split(f"//{server}", "--broker", "host:9092")
        try:
            if await _answer(probe.kafka_brokers(parts.hostname or "", parts.port or _KAFKA_PORT)):
                return
            why = f"the Kafka at {server} has no broker yet"
        except _NoAnswer as error:
            why = f"no Kafka answers at {server} ({error})"
    raise SetupError(f"{why}: start it, or correct --broker (without it, the stack starts its own Kafka)")


async def _check_secure_broker(settings: MeshSettings) -> None:
    from poise.kafka.admin import KafkaAdmin  # noqa: PLC0415 - slow to import; a probe is usually enough
    from poise.kafka.connection import Connection  # noqa: PLC0415 - as above

    try:
        async with asyncio.timeout(CONNECT_TIMEOUT), KafkaAdmin(Connection.of(settings)):
            return
    except TimeoutError as error:
        raise SetupError(
            f"no Kafka answers at {settings.broker} (no response within {CONNECT_TIMEOUT:.0f} s): start it, or "
            "correct --broker"
        ) from error


def _refuse_security(settings: MeshSettings) -> None:
    if settings.security.protocol != "PLAINTEXT":
        raise SetupError(
            f"POISE_SECURITY__PROTOCOL is {settings.security.protocol}, but the stack's own Kafka on loopback "
            "supports neither TLS nor SASL: name a broker that does with --broker, or unset POISE_SECURITY__…"
        )


async def _check_redis(url: str) -> None:
    parts = _split(url, "--redis", "redis://host:6379/0")
    if parts.scheme not in {"redis", "rediss"}:
        raise SetupError(f"--redis accepts redis:// and rediss://, not {parts.scheme}://")
    host, port = parts.hostname or "", parts.port or _REDIS_PORT
    try:
        await _answer(probe.redis_answers(host, port, tls=parts.scheme == "rediss"))
    except _NoAnswer as error:
        raise SetupError(
            f"no Redis answers at {host}:{port} ({error}): start it, or correct --redis (without it, the stack "
            "starts its own Valkey)"
        ) from error


async def _check_model(url: str) -> None:
    parts = _split(url, "--model-url", "http://host:port")
    if parts.scheme not in {"http", "https"}:
        raise SetupError(f"--model-url accepts http:// and https://, not {parts.scheme}://")
    try:
        await _answer(probe.http_status(url))  # any status will do: the first request shows whether it serves the model
    except _NoAnswer as error:
        raise SetupError(
            f"no model server answers at {url} ({error}): start it, or correct --model-url (without it, "
            "the stack starts its own)"
        ) from error


class _NoAnswer(Exception):  # noqa: N818 - never leaves this module
    """Nothing answers, or not with the expected protocol; the message is put in brackets."""


async def _answer(probing: Awaitable[object]) -> object:
    try:
        async with asyncio.timeout(PROBE_TIMEOUT):
            return await probing
    except TimeoutError as error:
        raise _NoAnswer(f"no response within {PROBE_TIMEOUT:.0f} s") from error
    except OSError as error:
        raise _NoAnswer(error.strerror or error_message(error)) from error
    except ValueError as error:
        raise _NoAnswer(str(error)) from error


def _split(url: str, option: str, example: str) -> SplitResult:
    """Return the parts of an address. The error message omits it, because it may contain a password."""
    parts = urlsplit(url)
    with contextlib.suppress(ValueError):  # raised by `port` if it is not a number
        if parts.hostname and parts.port != 0:
            return parts
    raise SetupError(f"{option} is not an address: write {option} {example}")
