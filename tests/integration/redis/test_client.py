"""A Redis that stops, is slow or is full: the work continues, one line is logged, and Redis is used again later."""

import asyncio
import logging
import os
import signal
import time

import pytest
from liveness_kit import ProcessOnClock
from redis.asyncio import Redis
from slow_proxy import SlowProxy

from poise.contracts import Answer
from poise.errors import SetupError
from poise.liveness import Liveness
from poise.redis import client
from poise.redis.answer_store import AnswerStore, CachedAnswer
from poise.redis.client import BREAKER_WINDOW, COMMAND_TIMEOUT, MAX_CONNECTIONS, OPEN_FOR, SLOW_COMMAND, RedisClient
from poise.redis.lease_store import Lease, LeaseStatus, LeaseStore, StoredReply
from poise.stack.valkey import Valkey
from poise.telemetry import semconv
from poise.telemetry.metrics import observations

pytestmark = pytest.mark.integration


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the client's log messages without the reasons."""
    return [record.getMessage().partition(":")[0] for record in caplog.records if record.name == "poise.redis.client"]


async def until_writable(redis: RedisClient) -> None:
    """Wait until a value can be written and read."""
    async with asyncio.timeout(10 * OPEN_FOR):
        while await redis.get("k") != b"new":
            await asyncio.sleep(0.05)
            await redis.put("k", b"new", 60)


async def test_a_stopped_redis_is_skipped_and_used_again_after_a_restart(
    server: Valkey, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with RedisClient(server.url) as redis:
        await redis.put("k", b"old", 60)
        await server.stop()
        for _ in range(50):
            assert await redis.get("k") is None
            await redis.put("k", b"lost", 60)
        assert (0.0, {}) in observations(semconv.REDIS_UP)
        await server.start()
        await until_writable(redis)
        assert (1.0, {}) in observations(semconv.REDIS_UP)
    assert messages(caplog) == ["Redis is unavailable and not used", "Redis is available again"]
    assert not observations(semconv.REDIS_UP)


async def test_a_hanging_redis_costs_one_timeout(
    server: Valkey, admin: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with RedisClient(server.url) as redis:
        await redis.put("k", b"old", 60)
        await admin.client_pause(round(4 * COMMAND_TIMEOUT * 1_000))
        assert await redis.get("k") is None
        # Hundreds more while the breaker is open: none of them waits, or this would take minutes.
        async with asyncio.timeout(2 * COMMAND_TIMEOUT + 1):
            for _ in range(300):
                assert await redis.get("k") is None
        await until_writable(redis)
    assert messages(caplog) == ["Redis is unavailable and not used", "Redis is available again"]


async def test_a_slow_redis_is_skipped_until_it_is_fast(proxy: SlowProxy, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with RedisClient(proxy.url) as redis:
        await redis.put("k", b"old", 60)
        proxy.delay = lambda: 2 * SLOW_COMMAND
        values = [await redis.get("k") for _ in range(300)]
        answered = values.index(None)
        assert answered <= BREAKER_WINDOW // 2
        assert set(values[answered:]) == {None}
        proxy.sent.clear()
        async with asyncio.timeout(10 * OPEN_FOR):
            while len([sent for sent in proxy.sent if b"poise:tried" in sent]) < 2:  # probes fail while it is slow
                assert await redis.get("k") is None
                await asyncio.sleep(0.05)
        assert not [sent for sent in proxy.sent if b"GET" in sent]  # callers' commands are not used as probes
        proxy.delay = lambda: 0.0
        await until_writable(redis)
    assert messages(caplog) == ["Redis is unavailable and not used", "Redis is available again"]


async def test_a_short_pause_does_not_open_the_breaker(proxy: SlowProxy, caplog: pytest.LogCaptureFixture) -> None:
    async with RedisClient(proxy.url) as redis:
        await redis.put("k", b"old", 60)
        assert await asyncio.gather(*(redis.get("k") for _ in range(MAX_CONNECTIONS))) == [b"old"] * MAX_CONNECTIONS
        for _ in range(BREAKER_WINDOW // 2 - 1):
            proxy.delay = lambda: 2 * SLOW_COMMAND
            assert await asyncio.gather(*(redis.get("k") for _ in range(MAX_CONNECTIONS))) == [b"old"] * MAX_CONNECTIONS
            proxy.delay = lambda: 0.0
            assert [await redis.get("k") for _ in range(2)] == [b"old"] * 2
    assert messages(caplog) == []


async def test_a_blocked_event_loop_does_not_open_the_breaker(server: Valkey, caplog: pytest.LogCaptureFixture) -> None:
    async with RedisClient(server.url) as redis:
        await redis.put("k", b"old", 60)
        for blocked in (COMMAND_TIMEOUT, *[SLOW_COMMAND] * BREAKER_WINDOW):
            getting = asyncio.create_task(redis.get("k"))
            await asyncio.sleep(0)
            time.sleep(2 * blocked)  # noqa: ASYNC251 - a handler that blocks the event loop
            assert await getting == b"old"
    assert messages(caplog) == []


async def test_commands_waiting_for_a_connection_return_when_the_breaker_opens(
    server: Valkey, proxy: SlowProxy, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with RedisClient(proxy.url) as redis:
        await redis.put("k", b"old", 60)
        os.kill(server.child.pid, signal.SIGSTOP)
        try:
            async with asyncio.timeout(COMMAND_TIMEOUT * 3):  # sequentially it would take half a minute
                values = await asyncio.gather(*(redis.get("k") for _ in range(50 * MAX_CONNECTIONS)))
            assert set(values) == {None}
        finally:
            os.kill(server.child.pid, signal.SIGCONT)
        await until_writable(redis)
    assert messages(caplog) == ["Redis is unavailable and not used", "Redis is available again"]


async def test_a_redis_that_cannot_keep_up_opens_the_breaker(
    proxy: SlowProxy, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "POOL_TIMEOUT", SLOW_COMMAND / 4)
    async with RedisClient(proxy.url) as redis:
        await asyncio.gather(*(redis.put("k", b"old", 60) for _ in range(MAX_CONNECTIONS)))
        proxy.delay = lambda: SLOW_COMMAND / 2  # none of them is slow
        values = await asyncio.gather(*(redis.get("k") for _ in range(10 * MAX_CONNECTIONS)))
        assert values == [b"old"] * MAX_CONNECTIONS + [None] * 9 * MAX_CONNECTIONS
    assert messages(caplog) == ["Redis is unavailable and not used"]


async def test_a_full_redis_is_still_read_and_written_again_when_it_has_room(
    server: Valkey, admin: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with RedisClient(server.url) as redis:
        await redis.put("k", b"old", 60)
        await admin.config_set("maxmemory", "1")
        for _ in range(20):
            await redis.put("k", b"lost", 60)
            assert await redis.get("k") == b"old"
        assert (1.0, {}) in observations(semconv.REDIS_UP)
        await admin.config_set("maxmemory", "0")
        await until_writable(redis)
    assert messages(caplog) == ["Redis is full and stores nothing until it has room", "Redis has room again"]


async def test_a_full_redis_still_returns_stored_replies(
    server: Valkey, admin: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with RedisClient(server.url) as redis:
        store = LeaseStore(redis)
        done, new = (Lease.for_step("tenant", run, "step", token=f"of {run}") for run in ("done", "new"))
        stored = StoredReply("answer/1", b"{}")
        assert await store.acquire(done, 60) is LeaseStatus.OWNED
        assert await store.store(done, stored, 60) is not LeaseStatus.HELD_ELSEWHERE
        await admin.config_set("maxmemory", "1")
        for _ in range(5):
            assert await store.acquire(new, 60) is LeaseStatus.UNKNOWN  # handled without a lease
            assert await store.acquire(done, 60) == stored
    assert messages(caplog) == ["Redis is full and stores nothing until it has room"]


async def test_a_stored_answer_shows_that_a_full_redis_has_room_again(
    server: Valkey, admin: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    answer = Answer(run_id="r", text="It is so.", rung="primary", epoch="e1.AAAA")
    now = time.time()
    entry = CachedAnswer(answer=answer, computation_started_at=now, computed_at=now, dependencies=(), duration_ms=1.0)
    async with RedisClient(server.url) as redis:
        answers = AnswerStore(redis, 10)
        await admin.config_set("maxmemory", "1")
        assert not await answers.put("tenant", "k", entry, 60)
        await admin.config_set("maxmemory", "0")
        assert await answers.put("tenant", "k", entry, 60)
    assert messages(caplog) == ["Redis is full and stores nothing until it has room", "Redis has room again"]


# -- liveness ---------------------------------------------------------------------------------------------------------

COMPONENT = "connection to Redis"


async def test_an_unavailable_redis_leaves_the_process_ready(server: Valkey) -> None:
    process = ProcessOnClock()
    async with RedisClient(server.url, liveness=process.liveness) as redis:
        await redis.put("k", b"old", 60)
        await server.stop()
        assert await redis.get("k") is None
        for _ in range(3):
            await process.assert_makes_progress(COMPONENT)
            assert process.liveness.check() is None
        assert (0.0, {}) in observations(semconv.REDIS_UP)
        assert not redis.available
    assert process.liveness.conditions() == {}


async def test_a_hanging_probe_is_detected(server: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    process, hanging, release = ProcessOnClock(), asyncio.Event(), asyncio.Event()

    async def hangs(*_arguments: object) -> None:
        hanging.set()
        await release.wait()

    async with RedisClient(server.url, liveness=process.liveness) as redis:
        await process.assert_makes_progress(COMPONENT)
        monkeypatch.setattr(client, "_with_timeout", hangs)  # not even the timeout ends it
        redis._open_breaker("a test says so")
        await hanging.wait()
        process.assert_stall_ends_process(COMPONENT)
        release.set()


async def test_a_dead_probing_task_ends_the_process(server: Valkey) -> None:
    liveness = Liveness()
    async with RedisClient(server.url, liveness=liveness) as redis:
        assert redis._probing is not None
        redis._probing.cancel()
        with pytest.raises(SetupError, match=f"{COMPONENT} has failed"):
            await asyncio.wait_for(liveness.watch(), 20)
        assert liveness.conditions() == {COMPONENT: False}
