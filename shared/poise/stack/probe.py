"""Probes: is a port free, and does what listens at an address answer as a Kafka, a Redis or an HTTP server does?"""

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
"""Below the ports that systems give to outgoing connections, lest one takes it between our look and its use."""

Probe = Callable[[], Awaitable[object]]
"""Answers something true when a server serves; raises OSError or answers something false when it does not yet."""

_METADATA: Final = 3
_METADATA_VERSION: Final = 4


def is_port_free(port: int) -> bool:
    """Whether one may listen on a loopback port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def free_port(*but: int) -> int:
    """A loopback port that nobody listens on, and none of those given."""
    for port in random.sample(_PORTS, 200):
        if port not in but and is_port_free(port):
            return port
    raise SetupError(f"no free port between {_PORTS.start} and {_PORTS.stop}: stop something that listens there")


def choose_port(port: int, *, what: str, option: str) -> int:
    """The port to listen on.

    Args:
        port: The port wanted; 0 = any free one.
        what: Who wants it, for the message.
        option: The option that chooses another, for the message.

    Raises:
        SetupError: Something listens there already.
    """
    if port == 0:
        return free_port()
    if is_port_free(port):
        return port
    raise SetupError(
        f"port {port} for {what} is in use: stop what listens there, or choose another with {option} (0 = any free one)"
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
        with contextlib.suppress(ConnectionError):  # the other side was faster
            await writer.wait_closed()


async def kafka_brokers(host: str, port: int) -> int:
    """How many brokers a Kafka server knows of: one request `Metadata` (version 4) about no topic.

    Raises:
        OSError: Nothing listens there, or it hangs up.
        ValueError: What answers is no Kafka.
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
        raise ValueError("what listens there does not speak Kafka's protocol")
    return int(brokers)


async def redis_answers(host: str, port: int, *, tls: bool = False) -> bool:
    """Whether a Redis or Valkey is there and has loaded its data; one that asks for a password counts.

    Raises:
        OSError: Nothing listens there, or it hangs up.
        ValueError: What answers is no Redis.
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
    raise ValueError("what listens there does not speak Redis' protocol")


async def http_status(url: str, *, bearer: str | None = None) -> int:
    """The status of a GET.

    Args:
        url: Its address.
        bearer: The token that is sent along; None = none.

    Raises:
        OSError: Nothing listens there, or it hangs up.
        ValueError: What answers does not speak HTTP.
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
        raise ValueError("what listens there does not speak HTTP")
    return int(words[1])


async def poll_until_ready(answers: Probe, *, interval: float = 0.04) -> None:
    """Wait until a probe answers something true; that nobody listens yet is no answer."""
    while True:
        with contextlib.suppress(OSError, TimeoutError):  # not there, or it accepts but is not yet at work
            async with asyncio.timeout(1.0):
                if await answers():
                    return
        await asyncio.sleep(interval)
