"""Runs the HTTP application until a graceful shutdown."""

import asyncio
import contextlib
import logging
import resource
import socket
from collections.abc import Iterator
from functools import partial
from typing import Final, cast

import uvicorn

from poise.errors import SetupError
from poise.ingestion.epoch_validator import EpochValidator
from poise.telemetry import observe, semconv
from poise.worker.runtime import WorkerRuntime
from poise_services.gateway.connections import Connections
from poise_services.gateway.handlers import Gateway
from poise_services.gateway.http_protocol import MAX_HEAD_BYTES, LimitedProtocol
from poise_services.gateway.settings import GatewaySettings

RESERVED_FILES: Final = 256
"""Open files besides client connections: rejected connections, broker connections, logs."""
BACKLOG: Final = 2_048
"""Connections that the system queues until they are accepted."""
ABORT_GRACE: Final = 5
"""Seconds for sending the 503 responses of aborted asks."""

logger = logging.getLogger(__name__)


class _Server(uvicorn.Server):
    """Leaves signals to the worker runtime, which requests the shutdown; logs the address once it serves."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listener in sockets or ():
            logger.info("serving http://%s:%d", *listener.getsockname()[:2])


async def serve(runtime: WorkerRuntime, settings: GatewaySettings, epochs: EpochValidator | None = None) -> None:
    """Serve until shutdown is requested.

    1. Stop accepting connections.
    2. Let pending asks finish, for `grace` seconds.
    3. Answer the remaining ones with 503.
    4. Close the connections.

    Raises:
        SetupError: The port cannot be bound.
    """
    _raise_open_file_limit(settings.limits.max_connections)
    with _bound_socket(settings) as listener:
        gateway = Gateway(runtime, settings, epochs)
        connections = Connections(settings.limits, settings.max_documents_bytes)
        server = _Server(
            uvicorn.Config(
                gateway.app,
                http=cast("type[asyncio.Protocol]", partial(LimitedProtocol, connections)),
                h11_max_incomplete_event_size=MAX_HEAD_BYTES,
                timeout_keep_alive=settings.limits.idle_timeout,
                ws="none",
                lifespan="off",
                log_config=None,
                log_level="error",  # malformed requests are counted, not logged
                access_log=False,
                server_header=False,
                proxy_headers=False,
                backlog=BACKLOG,
                timeout_graceful_shutdown=round(settings.grace) + ABORT_GRACE,
            )
        )
        runtime.ready_when("http", lambda: server.started and not server.should_exit)
        serving = asyncio.create_task(server.serve([listener]))
        stopped = asyncio.create_task(runtime.wait_for_stop())
        gauges = {
            semconv.ASKS_PENDING: lambda: gateway.asks.pending,
            semconv.HTTP_CONNECTIONS: lambda: len(connections),
            semconv.HTTP_BYTES: lambda: connections.budget.used,
        }
        stop_observing = [observe(gauge, read) for gauge, read in gauges.items()]
        try:
            await asyncio.wait({serving, stopped}, return_when=asyncio.FIRST_COMPLETED)
            server.should_exit = True
            await asyncio.wait({serving}, timeout=settings.grace)
            gateway.asks.abort_pending()
            await serving
            if stopped.done():
                await stopped
        finally:
            for stop in stop_observing:
                stop()
            stopped.cancel()
            serving.cancel()


def _raise_open_file_limit(connections: int) -> None:
    """Raise the limit of open files so that `max_connections` fit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    required = connections + RESERVED_FILES
    if soft != resource.RLIM_INFINITY and soft < required:
        limit = required if hard == resource.RLIM_INFINITY else min(required, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
        if limit < required:
            logger.warning("the system allows %d open files: that is too few for limits.max_connections", limit)


@contextlib.contextmanager
def _bound_socket(settings: GatewaySettings) -> Iterator[socket.socket]:
    """Yield a socket bound to the address; the server starts listening on it when it is ready."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # Name the protocol, because asyncio turns Nagle's algorithm off only then. With it, the client's delayed
    # acknowledgement would add 40 ms to each answer, whose head and body are sent one after the other.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((settings.host, settings.port))
        except OSError as error:
            address = f"{settings.host}:{settings.port}"
            raise SetupError(
                f"the gateway cannot listen on {address} ({error.strerror}): free it, or choose another by "
                "POISE_GATEWAY_HOST and POISE_GATEWAY_PORT (0 = any free port)"
            ) from error
        yield listener
