"""A cache that goes, is slow, or is full: work goes on without it, it is said once, and it is used again."""

import asyncio
import logging
import os
import signal
import time

import pytest
from liveness_kit import ProcessOnClock
from redis.asyncio import Redis
from slow_wire import SlowWire

from poise.errors import SetupError
from poise.liveness import Liveness
from poise.redis import client
from poise.redis.client import BREAKER_WINDOW, COMMAND_TIMEOUT, MAX_CONNECTIONS, OPEN_FOR, SLOW_COMMAND, RedisClient
from poise.redis.step_results import ClaimStatus, Lease, StepResultStore, StoredReply
from poise.stack.valkey import Valkey
from poise.telemetry import semconv
from poise.telemetry.metrics import observations

pytestmark = pytest.mark.integration


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the cache has said, without the reasons."""
    return [record.getMessage().partition(":")[0] for record in caplog.records if record.name == "poise.redis.client"]


async def until_kept(cache: RedisClient) -> None:
    """Wait until a value can be put and read."""
    async with asyncio.timeout(10 * OPEN_FOR):
        while await cache.get("k") != b"new":
            await asyncio.sleep(0.05)
            await cache.put("k", b"new", 60)


async def test_one_that_stops_is_gone_on_without_and_used_again(
    server: Valkey, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with RedisClient(server.url) as cache:
        await cache.put("k", b"old", 60)
        await server.stop()
        for _ in range(50):
            assert await cache.get("k") is None
            await cache.put("k", b"lost", 60)
        assert (0.0, {}) in observations(semconv.CACHE_UP)
        await server.start()
        await until_kept(cache)
        assert (1.0, {}) in observations(semconv.CACHE_UP)
    assert said(caplog) == ["the cache is absent, going on without it", "the cache is back"]
    assert not observations(semconv.CACHE_UP)


async def test_one_that_is_slow_costs_one_wait_and_no_more(
    server: Valkey, admin: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with RedisClient(server.url) as cache:
        await cache.put("k", b"old", 60)
        await admin.client_pause(round(4 * COMMAND_TIMEOUT * 1_000))
        assert await cache.get("k") is None
        # Hundreds more while it is left alone: none of them waits, or this would take minutes.
        async with asyncio.timeout(2 * COMMAND_TIMEOUT + 1):
            for _ in range(300):
                assert await cache.get("k") is None
        await until_kept(cache)
    assert said(caplog) == ["the cache is absent, going on without it", "the cache is back"]


async def test_one_that_answers_slowly_is_soon_gone_on_without_until_it_answers_soon(
    wire: SlowWire, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with RedisClient(wire.url) as cache:
        await cache.put("k", b"old", 60)
        wire.delay = lambda: 2 * SLOW_COMMAND
        found = [await cache.get("k") for _ in range(300)]
        waited = found.index(None)
        assert waited <= BREAKER_WINDOW // 2
        assert set(found[waited:]) == {None}
        wire.sent.clear()
        async with asyncio.timeout(10 * OPEN_FOR):
            while len([sent for sent in wire.sent if b"poise:tried" in sent]) < 2:  # while it is slow, in vain
                assert await cache.get("k") is None
                await asyncio.sleep(0.05)
        assert not [sent for sent in wire.sent if b"GET" in sent]  # and not by what a caller wants
        wire.delay = lambda: 0.0
        await until_kept(cache)
    assert said(caplog) == ["the cache is absent, going on without it", "the cache is back"]


async def test_a_moment_in_which_it_stands_still_is_no_reason_to_leave_it(
    wire: SlowWire, caplog: pytest.LogCaptureFixture
) -> None:
    async with RedisClient(wire.url) as cache:
        await cache.put("k", b"old", 60)
        assert await asyncio.gather(*(cache.get("k") for _ in range(MAX_CONNECTIONS))) == [b"old"] * MAX_CONNECTIONS
        for _ in range(BREAKER_WINDOW // 2 - 1):
            wire.delay = lambda: 2 * SLOW_COMMAND
            assert await asyncio.gather(*(cache.get("k") for _ in range(MAX_CONNECTIONS))) == [b"old"] * MAX_CONNECTIONS
            wire.delay = lambda: 0.0
            assert [await cache.get("k") for _ in range(2)] == [b"old"] * 2
    assert said(caplog) == []


async def test_a_worker_that_is_held_up_itself_does_not_blame_the_cache(
    server: Valkey, caplog: pytest.LogCaptureFixture
) -> None:
    async with RedisClient(server.url) as cache:
        await cache.put("k", b"old", 60)
        for held in (COMMAND_TIMEOUT, *[SLOW_COMMAND] * BREAKER_WINDOW):
            getting = asyncio.create_task(cache.get("k"))
            await asyncio.sleep(0)
            time.sleep(2 * held)  # noqa: ASYNC251 - the handler that holds the loop up
            assert await getting == b"old"
    assert said(caplog) == []


async def test_one_that_hangs_has_those_that_wait_for_a_connection_wait_no_longer(
    server: Valkey, wire: SlowWire, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with RedisClient(wire.url) as cache:
        await cache.put("k", b"old", 60)
        os.kill(server.child.pid, signal.SIGSTOP)
        try:
            async with asyncio.timeout(COMMAND_TIMEOUT * 3):  # not one after another, which took half a minute
                found = await asyncio.gather(*(cache.get("k") for _ in range(50 * MAX_CONNECTIONS)))
            assert set(found) == {None}
        finally:
            os.kill(server.child.pid, signal.SIGCONT)
        await until_kept(cache)
    assert said(caplog) == ["the cache is absent, going on without it", "the cache is back"]


async def test_one_that_cannot_keep_up_is_left_alone(
    wire: SlowWire, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "POOL_TIMEOUT", SLOW_COMMAND / 4)
    async with RedisClient(wire.url) as cache:
        await asyncio.gather(*(cache.put("k", b"old", 60) for _ in range(MAX_CONNECTIONS)))
        wire.delay = lambda: SLOW_COMMAND / 2  # none of them is slow
        found = await asyncio.gather(*(cache.get("k") for _ in range(10 * MAX_CONNECTIONS)))
        assert found == [b"old"] * MAX_CONNECTIONS + [None] * 9 * MAX_CONNECTIONS
    assert said(caplog) == ["the cache is absent, going on without it"]


async def test_one_that_is_full_is_still_read_and_written_again_when_it_has_room(
    server: Valkey, admin: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with RedisClient(server.url) as cache:
        await cache.put("k", b"old", 60)
        await admin.config_set("maxmemory", "1")
        for _ in range(20):
            await cache.put("k", b"lost", 60)
            assert await cache.get("k") == b"old"
        assert (1.0, {}) in observations(semconv.CACHE_UP)
        await admin.config_set("maxmemory", "0")
        await until_kept(cache)
    assert said(caplog) == ["the cache is full, nothing is kept until it has room", "the cache has room again"]


async def test_a_journal_in_one_that_is_full_still_knows_what_it_has(
    server: Valkey, admin: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with RedisClient(server.url) as cache:
        journal = StepResultStore(cache)
        done, new = (Lease.for_step("tenant", run, "step", token=f"of {run}") for run in ("done", "new"))
        stored = StoredReply("answer/1", b"{}")
        assert await journal.claim(done, 60) is ClaimStatus.ACQUIRED
        assert await journal.write(done, stored, 60) is not ClaimStatus.HELD_ELSEWHERE
        await admin.config_set("maxmemory", "1")
        for _ in range(5):
            assert await journal.claim(new, 60) is ClaimStatus.UNKNOWN  # handled all the same, without a lease
            assert await journal.claim(done, 60) == stored
    assert said(caplog) == ["the cache is full, nothing is kept until it has room"]


# -- as a part of its process -----------------------------------------------------------------------------------------

PART = "connection to the cache"


async def test_one_that_is_away_leaves_its_process_ready(server: Valkey) -> None:
    process = ProcessOnClock()
    async with RedisClient(server.url, liveness=process.liveness) as cache:
        await cache.put("k", b"old", 60)
        await server.stop()
        assert await cache.get("k") is None
        for _ in range(3):
            await process.goes_on(PART)
            assert process.liveness.check() is None
        assert (0.0, {}) in observations(semconv.CACHE_UP)
        assert not cache.available
    assert process.liveness.conditions() == {}


async def test_what_tries_it_and_hangs_is_found(server: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    process, hanging, go_on = ProcessOnClock(), asyncio.Event(), asyncio.Event()

    async def hangs(*_arguments: object) -> None:
        hanging.set()
        await go_on.wait()

    async with RedisClient(server.url, liveness=process.liveness) as cache:
        await process.goes_on(PART)
        monkeypatch.setattr(client, "_with_timeout", hangs)  # not even its timeout ends it
        cache._open_breaker("a test says so")
        await hanging.wait()
        process.stands_still(PART)
        go_on.set()


async def test_what_tries_it_and_dies_ends_the_process(server: Valkey) -> None:
    liveness = Liveness()
    async with RedisClient(server.url, liveness=liveness) as cache:
        assert cache._probing is not None
        cache._probing.cancel()
        with pytest.raises(SetupError, match=f"{PART} has failed"):
            await asyncio.wait_for(liveness.watch(), 20)
        assert liveness.conditions() == {PART: False}
