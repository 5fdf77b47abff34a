"""Connecting to the mesh: by the given broker, else the stack in the state directory, else the default address."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Final

import typer

from poise.client import Poise
from poise.errors import SetupError
from poise.settings import MeshSettings

CONNECT_TIMEOUT: Final = 15.0
"""Seconds. Kafka's client waits much longer for an address that does not respond at all."""

BrokerOption = Annotated[
    str | None,
    typer.Option(
        "--broker",
        metavar="HOST:PORT",
        show_default=False,
        help="Kafka. Default: POISE_BROKER, else the stack that runs in ./.poise, else 127.0.0.1:9092.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.")]


def resolve_settings(broker: str | None = None) -> MeshSettings:
    """Return the settings with the broker to use, and with the running stack's Redis if there is one.

    The first of these that there is: what is given here, `POISE_BROKER` (or the TOML file), the running stack of the
    state folder, the default.

    Raises:
        SetupError: A setting is refused, or the stack is only starting.
    """
    loaded = MeshSettings.load()
    update: dict[str, str | None] = {}
    if broker is None and "broker" not in loaded.model_fields_set:
        broker, redis_url = _running(loaded.state_dir)
        if redis_url is not None and "redis_url" not in loaded.model_fields_set:
            update["redis_url"] = redis_url
    decided = loaded.broker if broker is None else broker
    settled = loaded.model_copy(update={**update, "broker": decided})
    if not settled.bootstrap or not all(_is_address(part) for part in settled.bootstrap):
        raise SetupError(f"{decided!r} is no address of a broker: give host:port, or several with commas between")
    return settled


def _is_address(text: str) -> bool:
    host, colon, port = text.rpartition(":")
    return bool(host if colon else port) and (not colon or (port.isdecimal() and 0 < int(port) < 65_536))  # noqa: PLR2004


def running_broker(state_dir: Path) -> str | None:
    """Return the broker of the stack that runs in this state directory; None if none runs.

    Raises:
        SetupError: A stack is only starting there.
    """
    return _running(state_dir)[0]


def _running(state_dir: Path) -> tuple[str | None, str | None]:
    """Return the addresses of the broker and of Redis of the stack that runs here."""
    if not state_dir.is_dir():
        return None, None
    from poise.stack import state  # noqa: PLC0415 - only where a stack has ever been

    stack = state.running_stack(state_dir)
    if stack is None:
        return None, None
    if not stack.ready or stack.broker is None:
        raise SetupError(f"the stack in {state_dir} is still starting: try again when `poise status` says it is ready")
    return stack.broker, stack.redis_url


@asynccontextmanager
async def open_client(broker: str | None) -> AsyncIterator[Poise]:
    """Connect a client within `CONNECT_TIMEOUT`.

    Raises:
        SetupError: Nothing answers; the message says what to do.
    """
    found = resolve_settings(broker)
    poise = Poise(settings=found)
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            await poise.__aenter__()
    except TimeoutError as error:
        raise SetupError(
            f"nothing comes back from {found.broker} within {CONNECT_TIMEOUT:.0f} s: is it the broker's address?"
        ) from error
    try:
        yield poise
    finally:
        await poise.__aexit__(None, None, None)
