"""The options and the client of commands that connect to the mesh."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Final

import typer

from poise.client import Poise
from poise.errors import SetupError
from poise.stack.discovery import resolve_settings

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
            f"{found.broker} did not answer within {CONNECT_TIMEOUT:.0f} s: is it the address of a Kafka broker?"
        ) from error
    try:
        yield poise
    finally:
        await poise.__aexit__(None, None, None)
