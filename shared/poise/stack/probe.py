"""Probes: whether a port is free, and whether a Kafka, a Redis or an HTTP server answers at an address."""

import asyncio
import contextlib
import random
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final
from urllib.parse import urlsplit

from poise.errors import SetupError

LOOPBACK: Final = "127.0.0.1"

_PORTS: Final = range(20_000, 32_000)
"""Below the ephemeral ports of operating systems, so that no outgoing connection takes a port between check and use."""

Probe = Callable[[], Awaitable[object]]
"""Returns a true value if a server is ready; returns a false value or raises OSError if it is not yet."""

_METADATA: Final = 3
_METADATA_VERSION: Final = 4


def is_port_free(port: int) -> bool:
    """Return whether a loopback port can be bound."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def free_port(*excluded: int) -> int:
    """Return a free loopback port other than those given.

    Raises:
        SetupError: None was found.
    """
    for port in random.sample(_PORTS, 200):
        if port not in excluded and is_port_free(port):
            return port
    raise SetupError(f"no free port between {_PORTS.start} and {_PORTS.stop}: stop a process that listens there")


def choose_port(port: int, *, what: str, option: str) -> int:
    """Return the port to listen on.

    Args:
        port: The requested port; 0 = any free port.
        what: The server that will listen, for the message.
        option: The option that sets the port, for the message.

    Raises:
        SetupError: The port is in use.
    """
    if port == 0:
        return free_port()
    if is_port_free(port):
        return port
    raise SetupError(
        f"port {port} for {what} is in use: stop the process that listens there, or set {option} (0 = any free port)"
    )


@contextlib.asynccontextmanager
async def _connection(
    host: str, port: int, *, tls: bool = False
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(host, port, ssl=tls or None)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):  # the server closed it first
            await writer.wait_closed()


async def kafka_brokers(host: str, port: int) -> int:
    """Return the number of brokers in a Kafka server's metadata: one `Metadata` request (version 4) without topics.

    Raises:
        OSError: Nothing listens there, or the connection is closed.
        ValueError: The server is not a Kafka.
    """
    client = b"poise"
    request = struct.pack(">hhih", _METADATA, _METADATA_VERSION, 1, len(client)) + client + struct.pack(">i?", 0, False)
    async with _connection(host, port) as (reader, writer):
        writer.write(struct.pack(">i", len(request)) + request)
        try:
            size, correlation, _throttled, brokers = struct.unpack(">iiii", await reader.readexactly(16))
        except asyncio.IncompleteReadError as error:
            raise ConnectionError("it closed the connection") from error
    if correlation != 1 or not 0 <= brokers < size:
        raise ValueError("the server there does not speak Kafka's protocol")
    return int(brokers)


async def redis_answers(host: str, port: int, *, tls: bool = False) -> bool:
    """Return whether a Redis or Valkey answers and has loaded its data; one that requires a password counts.

    Raises:
        OSError: Nothing listens there, or the connection is closed.
        ValueError: The server is not a Redis.
    """
    async with _connection(host, port, tls=tls) as (reader, writer):
        writer.write(b"PING\r\n")
        line = await reader.readline()
    if not line:
        raise ConnectionError("it closed the connection")
    if line.startswith((b"+PONG", b"-NOAUTH")):
        return True
    if line.startswith(b"-"):
        return False
    raise ValueError("the server there does not speak Redis' protocol")


async def http_status(url: str, *, bearer: str | None = None) -> int:
    """Return the status of a GET request.

    Args:
        url: The URL.
        bearer: The bearer token to send; None = none.

    Raises:
        OSError: Nothing listens there, or the connection is closed.
        ValueError: The server does not speak HTTP.
    """
    parts = urlsplit(url)
    tls = parts.scheme == "https"
    host, port = parts.hostname or LOOPBACK, parts.port or (443 if tls else 80)
    async with _connection(host, port, tls=tls) as (reader, writer):
        headers = [f"Host: {host}:{port}", "Connection: close"]
        headers += [f"Authorization: Bearer {bearer}"] if bearer else []
        writer.write("\r\n".join([f"GET {parts.path or '/'} HTTP/1.1", *headers, "", ""]).encode())
        line = await reader.readline()
    words = line.split()
    if not words:
        raise ConnectionError("it closed the connection")
    if not words[0].startswith(b"HTTP/") or len(words) == 1:
        raise ValueError("the server there does not speak HTTP")
    return int(words[1])


async def poll_until_ready(answers: Probe, *, interval: float = 0.04) -> None:
    """Call a probe until it returns a true value; connection errors mean that the server is not ready yet."""
    while True:
        with contextlib.suppress(OSError, TimeoutError):  # not listening yet, or not answering yet
            async with asyncio.timeout(1.0):
                if await answers():
                    return
        await asyncio.sleep(interval)
