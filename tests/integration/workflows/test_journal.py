"""Histories on a real Valkey: who owns one, in which order it is kept, how long, and what happens without."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from poise.redis.client import RedisClient
from poise.redis.journal import Journal, JournalEntry
from poise.stack.valkey import Valkey

pytestmark = pytest.mark.integration


@pytest.fixture
async def cache(valkey: str) -> AsyncIterator[RedisClient]:
    async with RedisClient(valkey) as connected:
        yield connected


def entry(number: int, body: bytes = b"{}") -> JournalEntry:
    return JournalEntry(number, "value", "call do/1", "0a1b2c3d", 1.5, body)


async def test_what_is_written_is_found_and_can_be_replaced(cache: RedisClient) -> None:
    run = uuid4().hex
    history = Journal(cache, "acme", run, ttl=60)
    assert await history.open() == {}
    assert await history.write("a", entry(1, b'{"text": "\xc3\xa9\\n"}\n'))
    assert await history.write("b", entry(2))
    assert await history.write("b", JournalEntry(2, "given-up", "call do/1", "0a1b2c3d", 3.0))
    found = await Journal(cache, "acme", run, ttl=60).open()
    assert found == {
        "a": entry(1, b'{"text": "\xc3\xa9\\n"}\n'),
        "b": JournalEntry(2, "given-up", "call do/1", "0a1b2c3d", 3.0),
    }
    assert await Journal(cache, "other", run, ttl=60).open() == {}


async def test_whoever_opened_it_last_owns_it(cache: RedisClient) -> None:
    run = uuid4().hex
    old, new = Journal(cache, "acme", run, ttl=60), Journal(cache, "acme", run, ttl=60)
    await old.open()
    assert await old.write("a", entry(1))
    assert await new.open() == {"a": entry(1)}
    assert not await old.write("b", entry(2))
    assert await new.write("c", entry(2))
    assert set(await Journal(cache, "acme", run, ttl=60).open() or ()) == {"a", "c"}


async def test_writes_at_once_are_kept_in_their_order_and_one_that_is_cancelled_is_kept(
    cache: RedisClient, valkey: str
) -> None:
    history = Journal(cache, "acme", run := uuid4().hex, ttl=60)
    await history.open()
    writes = [asyncio.ensure_future(history.write(f"s{number}", entry(number))) for number in range(50)]
    await asyncio.sleep(0)
    writes[7].cancel()
    results = await asyncio.gather(*writes, return_exceptions=True)
    assert [result is True for result in results] == [number != 7 for number in range(50)]
    assert len(await Journal(cache, "acme", run, ttl=60).open() or ()) == 50
    async with Redis.from_url(valkey) as redis:
        assert 50 < await redis.ttl(f"poise:history:acme:{run}") <= 60


async def test_what_cannot_be_read_is_no_history(cache: RedisClient, valkey: str) -> None:
    run = uuid4().hex
    async with Redis.from_url(valkey) as redis:
        await redis.hset(f"poise:history:acme:{run}", "a", '[1, "unheard of", "x", "y", 0]\n')
    assert await Journal(cache, "acme", run, ttl=60).open() is None


async def test_after_one_that_was_lost_none_is_kept(tmp_path: Path) -> None:
    async with Valkey(tmp_path) as server, RedisClient(server.url) as cache:
        history = Journal(cache, "acme", "run", ttl=60)
        await history.open()
        assert await history.write("a", entry(1))
        await server.stop()
        assert not await history.write("b", entry(2))
        await server.start()
        async with asyncio.timeout(30):
            while await cache.get("k") is None:
                await cache.put("k", b"back", 60)
                await asyncio.sleep(0.05)
        assert not await history.write("c", entry(3))
