"""What many runs have for their histories, written together on a real Valkey: what befalls one befalls no other."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence

import pytest
from redis.asyncio import Redis
from slow_wire import SlowWire

from poise.redis.batch_writer import MAX_BATCH_BYTES, BatchWriter
from poise.redis.client import RedisClient
from poise.redis.journal import Journal, JournalEntry
from poise.redis.script import Script, ScriptCall
from poise.stack.valkey import Valkey

pytestmark = pytest.mark.integration

RUNS = 32


def entry(number: int, body: bytes = b"{}") -> JournalEntry:
    return JournalEntry(number, "value", "call do/1", "0a1b2c3d", 1.5, body)


async def opened(cache: RedisClient, runs: int = RUNS) -> list[Journal]:
    """The histories of so many runs."""
    histories = [Journal(cache, "acme", str(run), ttl=60) for run in range(runs)]
    for history in histories:
        assert await history.open() == {}
    return histories


async def kept(server: Valkey, run: int) -> list[int]:
    """The numbers of the entries that a run's history has."""
    async with RedisClient(server.url) as cache:
        found = await Journal(cache, "acme", str(run), ttl=60).open()
    assert found is not None
    return sorted(one.number for one in found.values())


async def write_all(history: Journal, entries: int) -> list[bool]:
    """Have entries written at once, and what was said of each."""
    return await asyncio.gather(*(history.write(f"s{number}", entry(number)) for number in range(entries)))


async def test_many_runs_share_a_round_trip_also_where_the_script_is_new(wire: SlowWire, admin: Redis) -> None:
    async with RedisClient(wire.url) as cache:
        histories = await opened(cache)
        for number, command in enumerate((b"EVALSHA", b"EVAL\r\n", b"EVALSHA", b"EVALSHA")):
            wire.sent.clear()
            assert all(await asyncio.gather(*(one.write(f"s{number}", entry(number)) for one in histories)))
            assert b"".join(wire.sent).count(command) == RUNS
            assert len(wire.sent) < RUNS / 2
            if number == 0:
                await admin.script_flush()


async def test_a_runs_entries_are_kept_in_their_order_whoever_else_writes(wire: SlowWire, server: Valkey) -> None:
    async with RedisClient(wire.url) as cache:
        histories = await opened(cache)
        wire.delay = lambda: 0.001

        async def replace(history: Journal) -> None:
            writing = []
            for number in range(20):
                writing.append(asyncio.ensure_future(history.write("s", entry(number))))
                await asyncio.sleep(0)
            assert all(await asyncio.gather(*writing))

        await asyncio.gather(*(replace(history) for history in histories))
    assert [await kept(server, run) for run in range(RUNS)] == [[19]] * RUNS


async def test_a_run_that_has_another_owner_is_told_and_no_other(cache_of_two: tuple[RedisClient, RedisClient]) -> None:
    cache, other = cache_of_two
    histories = await opened(cache)
    assert await Journal(other, "acme", "7", ttl=60).open() == {}
    for _ in range(2):
        told = await asyncio.gather(*(write_all(history, 3) for history in histories))
        assert told == [[run != 7] * 3 for run in range(RUNS)]


@pytest.fixture
async def cache_of_two(server: Valkey) -> AsyncIterator[tuple[RedisClient, RedisClient]]:
    """A worker's cache, and that of another worker."""
    async with RedisClient(server.url) as one, RedisClient(server.url) as other:
        yield one, other


async def test_a_run_whose_entry_the_server_refuses_is_told_and_no_other(server: Valkey, admin: Redis) -> None:
    async with RedisClient(server.url) as cache:
        histories = await opened(cache)
        await admin.set("poise:history:acme:7", "no hash")
        told = await asyncio.gather(*(write_all(history, 1) for history in histories))
        assert told == [[run != 7] for run in range(RUNS)]
        assert not cache.available


async def test_a_full_cache_keeps_no_entry_and_none_that_comes_after(
    server: Valkey, admin: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    async with RedisClient(server.url) as cache:
        histories = await opened(cache)
        assert all(await asyncio.gather(*(history.write("a", entry(1)) for history in histories)))
        await admin.config_set("maxmemory", "1")
        assert not any(await asyncio.gather(*(history.write("b", entry(2)) for history in histories)))
        assert cache.available
        assert "the cache is full" in caplog.text
        await admin.config_set("maxmemory", "0")
        assert not any(await asyncio.gather(*(history.write("c", entry(3)) for history in histories)))
    assert await kept(server, 0) == [1]


async def test_a_huge_entry_is_kept_and_has_a_round_trip_without_those_behind_it(wire: SlowWire) -> None:
    async with RedisClient(wire.url) as cache:
        histories = await opened(cache)
        assert all(await asyncio.gather(*(history.write("a", entry(1)) for history in histories)))
        wire.sent.clear()
        huge = entry(2, b"x" * 20 * MAX_BATCH_BYTES)
        wire.delay = lambda: 0.001
        writing = [asyncio.ensure_future(histories[0].write("b", huge))]
        writing += [asyncio.ensure_future(history.write("b", entry(2))) for history in histories[1:]]
        await asyncio.wait(writing, return_when=asyncio.FIRST_COMPLETED)
        assert [one.done() for one in writing] == [True] + [False] * (RUNS - 1)
        assert all(await asyncio.gather(*writing))
        assert (await Journal(cache, "acme", "0", ttl=60).open() or {})["b"] == huge


async def test_when_the_server_dies_all_are_told_and_what_they_are_told_is_so(wire: SlowWire, server: Valkey) -> None:
    async with RedisClient(wire.url) as cache:
        histories = await opened(cache)
        wire.delay = lambda: 0.002

        async def follow(history: Journal) -> int:
            number = 0
            while await history.write(f"s{number}", entry(number)):
                number += 1
            assert not await history.write("after", entry(number))
            return number

        following = [asyncio.ensure_future(follow(history)) for history in histories]
        while sum(sent.count(b"HSET") + sent.count(b"EVALSHA") for sent in wire.sent) < 10 * RUNS:  # noqa: ASYNC110 - the wire is the server's, and has no event
            await asyncio.sleep(0)
        server.kill()
        async with asyncio.timeout(10):
            numbers = await asyncio.gather(*following)
        assert min(numbers) > 0
    await server.stop()
    await server.start()
    for run, number in enumerate(numbers):
        found = await kept(server, run)
        assert found in (list(range(number)), list(range(number + 1)))  # the last one's answer may have been lost


async def test_what_waits_behind_an_entry_that_is_lost_is_lost_with_it(wire: SlowWire, admin: Redis) -> None:
    async with RedisClient(wire.url) as cache:
        (history,) = await opened(cache, 1)
        await admin.hset("poise:history:acme:0", "", "another")
        wire.delay = lambda: 0.02
        wire.sent.clear()
        first = asyncio.ensure_future(history.write("a", entry(1)))
        while not wire.sent:  # noqa: ASYNC110 - the wire has no event
            await asyncio.sleep(0)
        async with asyncio.timeout(5):
            assert [*await asyncio.gather(history.write("b", entry(2)), first)] == [False, False]


async def test_to_be_cancelled_takes_no_entry_back_and_holds_nobody_up(wire: SlowWire, server: Valkey) -> None:
    async with RedisClient(wire.url) as cache:
        histories = await opened(cache)
        wire.delay = lambda: 0.02
        writing = [asyncio.ensure_future(history.write("a", entry(1))) for history in histories]
        await asyncio.sleep(0.01)  # they are on their way, and those behind them wait
        writing += [asyncio.ensure_future(history.write("b", entry(2))) for history in histories]
        await asyncio.sleep(0)
        for cancelled in (writing[3], writing[RUNS + 5]):
            cancelled.cancel()
        told = await asyncio.gather(*writing, return_exceptions=True)
        assert [place for place, one in enumerate(told) if one is not True] == [3, RUNS + 5]
    assert await kept(server, 3) == await kept(server, 5) == [1, 2]


async def test_a_cache_that_is_closed_has_written_what_it_was_given(wire: SlowWire, server: Valkey) -> None:
    async with RedisClient(wire.url) as cache:
        histories = await opened(cache)
        wire.delay = lambda: 0.02
        wire.sent.clear()
        writing = [asyncio.ensure_future(history.write("a", entry(1))) for history in histories]
        while not wire.sent:  # noqa: ASYNC110 - the wire has no event
            await asyncio.sleep(0)
    assert all(one.done() for one in writing)
    assert await asyncio.gather(*writing) == [True] * RUNS
    assert await kept(server, 0) == [1]


async def test_a_bug_in_the_client_leaves_no_run_waiting(caplog: pytest.LogCaptureFixture) -> None:
    sent: list[int] = []

    async def send(_script: Script, calls: Sequence[ScriptCall]) -> Sequence[object]:
        sent.append(len(calls))
        await asyncio.sleep(0)
        if len(sent) == 1:
            raise TypeError("no such argument")
        return [b""] * len(calls)

    class Two:
        told: tuple[object, ...] = ()

        def take(self) -> ScriptCall:
            return "key", [b"token"]

        def written(self, said: object) -> bool:
            self.told += (said,)
            return len(self.told) < 2

    caplog.set_level(logging.ERROR)
    writer, pending = BatchWriter(send), [Two() for _ in range(3)]
    for one in pending:
        writer.add(one)
    await writer.idle()
    assert [one.told for one in pending] == [(None, b"")] * 3
    assert sum(sent) == 6
    assert "could not be written" in caplog.text
