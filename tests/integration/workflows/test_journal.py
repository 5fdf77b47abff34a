"""Journals on a real Valkey: ownership, order, retention, and a lost server."""

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
async def redis(valkey: str) -> AsyncIterator[RedisClient]:
    async with RedisClient(valkey) as connected:
        yield connected


def entry(number: int, body: bytes = b"{}") -> JournalEntry:
    return JournalEntry(number, "value", "call do/1", "0a1b2c3d", 1.5, body)


async def test_a_written_entry_is_read_and_can_be_replaced(redis: RedisClient) -> None:
    run = uuid4().hex
    journal = Journal(redis, "acme", run, ttl=60)
    assert await journal.open() == {}
    assert await journal.write("a", entry(1, b'{"text": "\xc3\xa9\\n"}\n'))
    assert await journal.write("b", entry(2))
    assert await journal.write("b", JournalEntry(2, "given-up", "call do/1", "0a1b2c3d", 3.0))
    entries = await Journal(redis, "acme", run, ttl=60).open()
    assert entries == {
        "a": entry(1, b'{"text": "\xc3\xa9\\n"}\n'),
        "b": JournalEntry(2, "given-up", "call do/1", "0a1b2c3d", 3.0),
    }
    assert await Journal(redis, "other", run, ttl=60).open() == {}


async def test_the_last_to_open_a_journal_owns_it(redis: RedisClient) -> None:
    run = uuid4().hex
    old, new = Journal(redis, "acme", run, ttl=60), Journal(redis, "acme", run, ttl=60)
    await old.open()
    assert await old.write("a", entry(1))
    assert await new.open() == {"a": entry(1)}
    assert not await old.write("b", entry(2))
    assert await new.write("c", entry(2))
    assert set(await Journal(redis, "acme", run, ttl=60).open() or ()) == {"a", "c"}


async def test_concurrent_writes_are_written_in_order_and_a_cancelled_one_too(redis: RedisClient, valkey: str) -> None:
    journal = Journal(redis, "acme", run := uuid4().hex, ttl=60)
    await journal.open()
    writes = [asyncio.ensure_future(journal.write(f"s{number}", entry(number))) for number in range(50)]
    await asyncio.sleep(0)
    writes[7].cancel()
    results = await asyncio.gather(*writes, return_exceptions=True)
    assert [result is True for result in results] == [number != 7 for number in range(50)]
    assert len(await Journal(redis, "acme", run, ttl=60).open() or ()) == 50
    async with Redis.from_url(valkey) as connection:
        assert 50 < await connection.ttl(f"poise:history:acme:{run}") <= 60


async def test_an_unreadable_journal_is_not_used(redis: RedisClient, valkey: str) -> None:
    run = uuid4().hex
    async with Redis.from_url(valkey) as connection:
        await connection.hset(f"poise:history:acme:{run}", "a", '[1, "unheard of", "x", "y", 0]\n')
    assert await Journal(redis, "acme", run, ttl=60).open() is None


async def test_after_a_lost_entry_no_later_one_is_written(tmp_path: Path) -> None:
    async with Valkey(tmp_path) as server, RedisClient(server.url) as redis:
        journal = Journal(redis, "acme", "run", ttl=60)
        await journal.open()
        assert await journal.write("a", entry(1))
        await server.stop()
        assert not await journal.write("b", entry(2))
        await server.start()
        async with asyncio.timeout(30):
            while await redis.get("k") is None:
                await redis.put("k", b"back", 60)
                await asyncio.sleep(0.05)
        assert not await journal.write("c", entry(3))
