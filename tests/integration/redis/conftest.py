from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis
from slow_wire import SlowWire

from poise.stack.valkey import Valkey


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Valkey]:
    """A Valkey of this test's own."""
    async with Valkey(tmp_path) as valkey:
        yield valkey


@pytest.fixture
async def admin(server: Valkey) -> AsyncIterator[Redis]:
    """A person's own connection to it."""
    redis = Redis.from_url(server.url)
    yield redis
    await redis.aclose()


@pytest.fixture
async def wire(server: Valkey) -> AsyncIterator[SlowWire]:
    """A way to it that can be made slow."""
    async with SlowWire(server.port) as wire:
        yield wire
