"""Model servers: a real one, and scripted ones that misbehave."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
import pytest_asyncio

from poise.stack.model import ModelServer

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Serve = Callable[[Script], AbstractAsyncContextManager[str]]


@asynccontextmanager
async def _serve(script: Script) -> AsyncIterator[str]:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await script(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client disconnected
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


@pytest.fixture
def serve() -> Serve:
    """Return a function that runs a script for every connection and yields the server's address."""
    return _serve


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def model(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[dict[str, str]]:
    """Run a real model server; yield it as a backend for the tier's settings."""
    async with ModelServer(tmp_path_factory.mktemp("model")) as server:
        yield server.backend
