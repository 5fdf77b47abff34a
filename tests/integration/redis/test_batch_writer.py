"""Journal entries of many runs, batched on a real Valkey: a failure of one run does not affect the others."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence

import pytest
from redis.asyncio import Redis
from slow_proxy import SlowProxy

from poise.redis.batch_writer import MAX_BATCH_BYTES, BatchWriter
from poise.redis.client import RedisClient
from poise.redis.journal import Journal, JournalEntry
from poise.redis.script import Script, ScriptCall
from poise.stack.valkey import Valkey

pytestmark = pytest.mark.integration

RUNS = 32


def entry(number: int, body: bytes = b"{}") -> JournalEntry:
    return JournalEntry(number, "value", "call do/1", "0a1b2c3d", 1.5, body)


async def open_journals(redis: RedisClient, runs: int = RUNS) -> list[Journal]:
    """Open the journals of a number of runs."""
    journals = [Journal(redis, "acme", str(run), ttl=60) for run in range(runs)]
    for journal in journals:
        assert await journal.open() == {}
    return journals


async def stored_numbers(server: Valkey, run: int) -> list[int]:
    """Return the numbers of the entries in a run's journal."""
    async with RedisClient(server.url) as redis:
        stored = await Journal(redis, "acme", str(run), ttl=60).open()
    assert stored is not None
    return sorted(one.number for one in stored.values())


async def write_all(journal: Journal, entries: int) -> list[bool]:
    """Write entries concurrently; return the result of each."""
    return await asyncio.gather(*(journal.write(f"s{number}", entry(number)) for number in range(entries)))


async def test_many_runs_share_a_round_trip_also_if_the_script_is_not_loaded(proxy: SlowProxy, admin: Redis) -> None:
    async with RedisClient(proxy.url) as redis:
        journals = await open_journals(redis)
        for number, command in enumerate((b"EVALSHA", b"EVAL\r\n", b"EVALSHA", b"EVALSHA")):
            proxy.sent.clear()
            assert all(await asyncio.gather(*(one.write(f"s{number}", entry(number)) for one in journals)))
            assert b"".join(proxy.sent).count(command) == RUNS
            assert len(proxy.sent) < RUNS / 2
            if number == 0:
                await admin.script_flush()


async def test_a_runs_entries_are_written_in_order_while_other_runs_write(proxy: SlowProxy, server: Valkey) -> None:
    async with RedisClient(proxy.url) as redis:
        journals = await open_journals(redis)
        proxy.delay = lambda: 0.001

        async def replace(journal: Journal) -> None:
            writing = []
            for number in range(20):
                writing.append(asyncio.ensure_future(journal.write("s", entry(number))))
                await asyncio.sleep(0)
            assert all(await asyncio.gather(*writing))

        await asyncio.gather(*(replace(journal) for journal in journals))
    assert [await stored_numbers(server, run) for run in range(RUNS)] == [[19]] * RUNS


async def test_only_a_run_with_another_owner_is_refused(two_clients: tuple[RedisClient, RedisClient]) -> None:
    redis, other = two_clients
    journals = await open_journals(redis)
    assert await Journal(other, "acme", "7", ttl=60).open() == {}
    for _ in range(2):
        results = await asyncio.gather(*(write_all(journal, 3) for journal in journals))
        assert results == [[run != 7] * 3 for run in range(RUNS)]


@pytest.fixture
async def two_clients(server: Valkey) -> AsyncIterator[tuple[RedisClient, RedisClient]]:
    """Yield the Redis clients of two workers."""
    async with RedisClient(server.url) as one, RedisClient(server.url) as other:
        yield one, other


async def test_only_the_run_whose_entry_the_server_rejects_fails(server: Valkey, admin: Redis) -> None:
    async with RedisClient(server.url) as redis:
        journals = await open_journals(redis)
        await admin.set("poise:history:acme:7", "no hash")
        results = await asyncio.gather(*(write_all(journal, 1) for journal in journals))
        assert results == [[run != 7] for run in range(RUNS)]
        assert not redis.available


async def test_a_full_redis_rejects_an_entry_and_all_later_ones(
    server: Valkey, admin: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    async with RedisClient(server.url) as redis:
        journals = await open_journals(redis)
        assert all(await asyncio.gather(*(journal.write("a", entry(1)) for journal in journals)))
        await admin.config_set("maxmemory", "1")
        assert not any(await asyncio.gather(*(journal.write("b", entry(2)) for journal in journals)))
        assert redis.available
        assert "Redis is full" in caplog.text
        await admin.config_set("maxmemory", "0")
        assert not any(await asyncio.gather(*(journal.write("c", entry(3)) for journal in journals)))
    assert await stored_numbers(server, 0) == [1]


async def test_a_huge_entry_is_written_in_a_round_trip_by_itself(proxy: SlowProxy) -> None:
    async with RedisClient(proxy.url) as redis:
        journals = await open_journals(redis)
        assert all(await asyncio.gather(*(journal.write("a", entry(1)) for journal in journals)))
        proxy.sent.clear()
        huge = entry(2, b"x" * 20 * MAX_BATCH_BYTES)
        proxy.delay = lambda: 0.001
        writing = [asyncio.ensure_future(journals[0].write("b", huge))]
        writing += [asyncio.ensure_future(journal.write("b", entry(2))) for journal in journals[1:]]
        await asyncio.wait(writing, return_when=asyncio.FIRST_COMPLETED)
        assert [one.done() for one in writing] == [True] + [False] * (RUNS - 1)
        assert all(await asyncio.gather(*writing))
        assert (await Journal(redis, "acme", "0", ttl=60).open() or {})["b"] == huge


async def test_when_the_server_dies_all_runs_learn_which_entries_were_written(proxy: SlowProxy, server: Valkey) -> None:
    async with RedisClient(proxy.url) as redis:
        journals = await open_journals(redis)
        proxy.delay = lambda: 0.002

        async def follow(journal: Journal) -> int:
            number = 0
            while await journal.write(f"s{number}", entry(number)):
                number += 1
            assert not await journal.write("after", entry(number))
            return number

        following = [asyncio.ensure_future(follow(journal)) for journal in journals]
        while sum(sent.count(b"HSET") + sent.count(b"EVALSHA") for sent in proxy.sent) < 10 * RUNS:  # noqa: ASYNC110 - the proxy has no event
            await asyncio.sleep(0)
        server.kill()
        async with asyncio.timeout(10):
            numbers = await asyncio.gather(*following)
        assert min(numbers) > 0
    await server.stop()
    await server.start()
    for run, number in enumerate(numbers):
        stored = await stored_numbers(server, run)
        assert stored in (list(range(number)), list(range(number + 1)))  # the last reply may have been lost


async def test_entries_waiting_behind_a_rejected_one_are_rejected_too(proxy: SlowProxy, admin: Redis) -> None:
    async with RedisClient(proxy.url) as redis:
        (journal,) = await open_journals(redis, 1)
        await admin.hset("poise:history:acme:0", "", "another")
        proxy.delay = lambda: 0.02
        proxy.sent.clear()
        first = asyncio.ensure_future(journal.write("a", entry(1)))
        while not proxy.sent:  # noqa: ASYNC110 - the proxy has no event
            await asyncio.sleep(0)
        async with asyncio.timeout(5):
            assert [*await asyncio.gather(journal.write("b", entry(2)), first)] == [False, False]


async def test_cancellation_does_not_withdraw_an_entry_or_delay_others(proxy: SlowProxy, server: Valkey) -> None:
    async with RedisClient(proxy.url) as redis:
        journals = await open_journals(redis)
        proxy.delay = lambda: 0.02
        writing = [asyncio.ensure_future(journal.write("a", entry(1))) for journal in journals]
        await asyncio.sleep(0.01)  # these are in flight, and the next ones wait
        writing += [asyncio.ensure_future(journal.write("b", entry(2))) for journal in journals]
        await asyncio.sleep(0)
        for cancelled in (writing[3], writing[RUNS + 5]):
            cancelled.cancel()
        results = await asyncio.gather(*writing, return_exceptions=True)
        assert [index for index, one in enumerate(results) if one is not True] == [3, RUNS + 5]
    assert await stored_numbers(server, 3) == await stored_numbers(server, 5) == [1, 2]


async def test_closing_the_client_writes_all_pending_entries(proxy: SlowProxy, server: Valkey) -> None:
    async with RedisClient(proxy.url) as redis:
        journals = await open_journals(redis)
        proxy.delay = lambda: 0.02
        proxy.sent.clear()
        writing = [asyncio.ensure_future(journal.write("a", entry(1))) for journal in journals]
        while not proxy.sent:  # noqa: ASYNC110 - the proxy has no event
            await asyncio.sleep(0)
    assert all(one.done() for one in writing)
    assert await asyncio.gather(*writing) == [True] * RUNS
    assert await stored_numbers(server, 0) == [1]


async def test_a_bug_in_the_client_does_not_leave_a_run_waiting(caplog: pytest.LogCaptureFixture) -> None:
    sent: list[int] = []

    async def send(_script: Script, calls: Sequence[ScriptCall]) -> Sequence[object]:
        sent.append(len(calls))
        await asyncio.sleep(0)
        if len(sent) == 1:
            raise TypeError("no such argument")
        return [b""] * len(calls)

    class TwoWrites:
        results: tuple[object, ...] = ()

        def take_entries(self) -> ScriptCall:
            return "key", [b"token"]

        def complete_write(self, result: object) -> bool:
            self.results += (result,)
            return len(self.results) < 2

    caplog.set_level(logging.ERROR)
    writer, pending = BatchWriter(send), [TwoWrites() for _ in range(3)]
    for one in pending:
        writer.add(one)
    await writer.idle()
    assert [one.results for one in pending] == [(None, b"")] * 3
    assert sum(sent) == 6
    assert "could not be written" in caplog.text
