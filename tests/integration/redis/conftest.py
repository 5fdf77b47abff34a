from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis
from slow_proxy import SlowProxy

from poise.stack.valkey import Valkey


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Valkey]:
    """Run a Valkey server for this test."""
    async with Valkey(tmp_path) as valkey:
        yield valkey


@pytest.fixture
async def admin(server: Valkey) -> AsyncIterator[Redis]:
    """Connect directly to the server."""
    redis = Redis.from_url(server.url)
    yield redis
    await redis.aclose()


@pytest.fixture
async def proxy(server: Valkey) -> AsyncIterator[SlowProxy]:
    """Run a proxy to the server with an adjustable delay."""
    async with SlowProxy(server.port) as proxy:
        yield proxy
