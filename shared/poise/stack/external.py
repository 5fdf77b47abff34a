"""What runs already: see that it answers before anything is built on it."""

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
"""Seconds for each to answer."""

CONNECT_TIMEOUT: Final = 15.0
"""Seconds for a broker that is spoken to by TLS or SASL: it is connected to twice, to know why it refuses."""

_KAFKA_PORT: Final = 9092
_REDIS_PORT: Final = 6379


async def check(services: ExternalServices) -> None:
    """See that everything that is to be used instead of a part of ours answers.

    Raises:
        SetupError: Something does not; the message says which and what to do.
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
            why = f"the Kafka at {server} knows of no broker yet"
        except _Silent as error:
            why = f"no Kafka answers at {server} ({error})"
    raise SetupError(f"{why}: start it, or correct --broker (leave it out for a Kafka of the stack's own)")


async def _check_secure_broker(settings: MeshSettings) -> None:
    from poise.kafka.admin import KafkaAdmin  # noqa: PLC0415 - takes long to load, and a probe mostly does
    from poise.kafka.connection import Connection  # noqa: PLC0415 - as above

    try:
        async with asyncio.timeout(CONNECT_TIMEOUT), KafkaAdmin(Connection.of(settings)):
            return
    except TimeoutError as error:
        raise SetupError(
            f"no Kafka answers at {settings.broker} (nothing came back within {CONNECT_TIMEOUT:.0f} s): start it, or "
            "correct --broker"
        ) from error


def _refuse_security(settings: MeshSettings) -> None:
    if settings.security.protocol != "PLAINTEXT":
        raise SetupError(
            f"POISE_SECURITY__PROTOCOL is {settings.security.protocol}, and the stack's own Kafka on loopback speaks "
            "neither TLS nor SASL: name a broker that does with --broker, or unset POISE_SECURITY__…"
        )


async def _check_redis(url: str) -> None:
    parts = _split(url, "--redis", "redis://host:6379/0")
    if parts.scheme not in {"redis", "rediss"}:
        raise SetupError(f"--redis understands redis:// and rediss://, not {parts.scheme}://")
    host, port = parts.hostname or "", parts.port or _REDIS_PORT
    try:
        await _answer(probe.redis_answers(host, port, tls=parts.scheme == "rediss"))
    except _Silent as error:
        raise SetupError(
            f"no Redis answers at {host}:{port} ({error}): start it, or correct --redis (leave it out for a Valkey of "
            "the stack's own)"
        ) from error


async def _check_model(url: str) -> None:
    parts = _split(url, "--model-url", "http://host:port")
    if parts.scheme not in {"http", "https"}:
        raise SetupError(f"--model-url understands http:// and https://, not {parts.scheme}://")
    try:
        await _answer(probe.http_status(url))  # whatever it says: what it serves is asked with the first question
    except _Silent as error:
        raise SetupError(
            f"no model server answers at {url} ({error}): start it, or correct --model-url (leave it out for the "
            "stack's own)"
        ) from error


class _Silent(Exception):  # noqa: N818 - never leaves this module
    """Nothing answers, or something else than expected; the message is for brackets."""


async def _answer(question: Awaitable[object]) -> object:
    try:
        async with asyncio.timeout(PROBE_TIMEOUT):
            return await question
    except TimeoutError as error:
        raise _Silent(f"nothing came back within {PROBE_TIMEOUT:.0f} s") from error
    except OSError as error:
        raise _Silent(error.strerror or error_message(error)) from error
    except ValueError as error:
        raise _Silent(str(error)) from error


def _split(url: str, option: str, example: str) -> SplitResult:
    """The parts of an address. It is not repeated in the message, for it may hold a password."""
    parts = urlsplit(url)
    with contextlib.suppress(ValueError):  # raised by `port` when it is none
        if parts.hostname and parts.port != 0:
            return parts
    raise SetupError(f"what {option} says is not an address: write {option} {example}")
