from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis
from slow_wire import SlowWire

from poise.stack.valkey import Valkey


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Valkey]:
    """A Valkey server for this test."""
    async with Valkey(tmp_path) as valkey:
        yield valkey


@pytest.fixture
async def admin(server: Valkey) -> AsyncIterator[Redis]:
    """A direct connection to it."""
    redis = Redis.from_url(server.url)
    yield redis
    await redis.aclose()


@pytest.fixture
async def wire(server: Valkey) -> AsyncIterator[SlowWire]:
    """A proxy to it with adjustable delay."""
    async with SlowWire(server.port) as wire:
        yield wire
