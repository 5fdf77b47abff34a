"""Server: the application on a socket, on the mesh's event loop, from the first request to an orderly end."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Iterator
from typing import Final

import uvicorn

from poise.errors import SetupError
from poise.messaging import Mesh
from poise.telemetry import observe, table
from services.gateway.handlers import Gateway
from services.gateway.settings import GatewaySettings

BACKLOG: Final = 2_048
LAST_WORDS: Final = 5
"""Seconds for telling those whose asks were given up."""

logger = logging.getLogger(__name__)


class _Server(uvicorn.Server):
    """Leaves signals to the mesh, which asks for the stop; says where it serves once it does."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listener in sockets or ():
            logger.info("serving http://%s:%d", *listener.getsockname()[:2])


async def serve(mesh: Mesh, settings: GatewaySettings) -> None:
    """Serve until stop is asked.

    1. no new connection is taken
    2. asks that wait may finish, for `grace` seconds
    3. those that still wait are answered 503
    4. the connections are closed

    Raises:
        SetupError: The port cannot be had.
    """
    with _listening(settings) as listener:
        gateway = Gateway(mesh, settings)
        server = _Server(
            uvicorn.Config(
                gateway.app,
                ws="none",
                lifespan="off",
                log_config=None,
                log_level="warning",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                backlog=BACKLOG,
                timeout_graceful_shutdown=round(settings.grace) + LAST_WORDS,
            )
        )
        mesh.ready_when("http", lambda: server.started and not server.should_exit)
        serving = asyncio.create_task(server.serve([listener]))
        stopped = asyncio.create_task(mesh.stopped())
        unobserve = observe(table.ASKS_PENDING, lambda: gateway.asks.pending)
        try:
            await asyncio.wait({serving, stopped}, return_when=asyncio.FIRST_COMPLETED)
            server.should_exit = True
            await asyncio.wait({serving}, timeout=settings.grace)
            gateway.asks.leave()
            await serving
            if stopped.done():
                await stopped
        finally:
            unobserve()
            stopped.cancel()
            serving.cancel()


@contextlib.contextmanager
def _listening(settings: GatewaySettings) -> Iterator[socket.socket]:
    """A socket bound to the address; it listens once the server takes it, so that nobody knocks at a closed door."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # The protocol is named because asyncio turns Nagle's algorithm off only where it is: left on, it and the client's
    # delayed acknowledgement add 40 ms to each answer, whose head and body are sent one after the other.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((settings.host, settings.port))
        except OSError as error:
            where = f"{settings.host}:{settings.port}"
            raise SetupError(
                f"the gateway cannot listen on {where} ({error.strerror}): free it, or choose another by "
                "POISE_GATEWAY_HOST and POISE_GATEWAY_PORT (0 = any free port)"
            ) from error
        yield listener
