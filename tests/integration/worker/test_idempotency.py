"""Copies of one message: handled once, with the same reply, while workers die, stall or stop."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import paying_worker
import pytest
from integration_kit import Outsider, serving, until

from poise.contracts import Completion, Fault, Generate
from poise.contracts.generate import ChatMessage
from poise.contracts.topics import INFERENCE_INTERACTIVE, dead_letter_topic_name
from poise.errors import PoiseError, RetryableError, TerminalError
from poise.kafka.partitioner import partition_for
from poise.kafka.record import Record
from poise.liveness import Liveness
from poise.redis import client
from poise.redis.client import RedisClient
from poise.redis.lease import LeaseHolder
from poise.redis.lease_store import Lease, LeaseStatus, LeaseStore, StoredReply
from poise.settings import MeshSettings
from poise.stack.valkey import Valkey
from poise.telemetry import semconv
from poise.telemetry.metrics import observations
from poise.worker.context import Context
from poise.worker.tier import Tier

pytestmark = pytest.mark.integration

BODY = Generate(messages=(ChatMessage(role="user", content="x"),)).encode()
KEYS = {partition_for(key, 6): key for key in (b"%d" % number for number in range(50))}
"""A key for each partition."""
LEASE = 2.0
"""Seconds: a machine that is busy with something else may well let a process wait for one of them."""
ME, OTHER = "me", "other"

Pay = Callable[[], Awaitable[str]]


def tier(pay: Pay) -> Tier:
    async def handle(_request: Generate, _context: Context) -> Completion:
        return Completion(text=await pay(), model="m", backend="b", finish_reason="stop")

    return Tier("inference", {Generate: handle})


async def send(outsider: Outsider, run: str, partition: int = 0, **headers: str) -> Record:
    named: dict[str, Any] = {"poise_run": run, "poise_step": "g", **headers}
    return await outsider.send(INFERENCE_INTERACTIVE.name, BODY, key=KEYS[partition], **named)


async def send_to_each_partition(outsider: Outsider, run: str) -> list[Record]:
    return [await send(outsider, run, partition) for partition in range(6)]


async def replies_to(outsider: Outsider, sent: list[Record]) -> list[Record]:
    """The first reply to each."""
    wanted, found = {record.header("correlation_id") for record in sent}, dict[str | None, Record]()
    async with asyncio.timeout(30):
        while found.keys() < wanted:
            reply = Record.of(await outsider._consumer.getone())
            found.setdefault(reply.header("correlation_id"), reply)
    return list(found.values())


@pytest.fixture
def holders(monkeypatch: pytest.MonkeyPatch) -> list[LeaseHolder]:
    """The lease holders of every worker that the test starts in this process."""
    created: list[LeaseHolder] = []

    class RecordedHolder(LeaseHolder):
        def __init__(self, results: LeaseStore, ttl: float, liveness: Liveness) -> None:
            super().__init__(results, ttl, liveness)
            created.append(self)

    monkeypatch.setattr("poise.worker.runtime.LeaseHolder", RecordedHolder)
    return created


@pytest.fixture
def settings(mesh_settings: MeshSettings) -> MeshSettings:
    return mesh_settings.model_copy(update={"lease_ttl": LEASE})


# -- two workers -------------------------------------------------------------------------------------------------------


async def test_copies_that_arrive_while_one_is_handled_wait_for_its_reply(
    settings: MeshSettings, outsider: Outsider, holders: list[LeaseHolder]
) -> None:
    paid, may_end = 0, asyncio.Event()

    async def pay() -> str:
        nonlocal paid
        paid += 1
        await may_end.wait()
        return f"{paid}"

    other = settings.model_copy(update={"instance": f"{settings.instance}-2"})
    async with serving(settings, tier(pay)), serving(other, tier(pay)):
        sent = await send_to_each_partition(outsider, uuid4().hex)
        one, two = holders
        await until(lambda: len(one.held) + len(two.held) == 6)
        assert one.held
        assert two.held
        assert paid == 1
        may_end.set()
        replies = await replies_to(outsider, sent)
    assert paid == 1
    assert len({reply.value for reply in replies}) == 1


async def test_a_lease_outlives_its_ttl_while_its_holder_lives(
    settings: MeshSettings, outsider: Outsider, holders: list[LeaseHolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    paid, beats, may_end = 0, 0, asyncio.Event()
    renew = LeaseStore.renew

    async def counted(leases: LeaseStore, lease: Lease, ttl: float) -> None:
        nonlocal beats
        await renew(leases, lease, ttl)
        beats += 1

    async def pay() -> str:
        nonlocal paid
        paid += 1
        await may_end.wait()
        return "x"

    monkeypatch.setattr(LeaseStore, "renew", counted)
    async with serving(settings, tier(pay)):
        run = uuid4().hex
        first = await send(outsider, run)
        await until(lambda: paid == 1)
        second = await send(outsider, run)
        await until(lambda: len(holders[0].held) == 2)
        await until(lambda: beats >= 12)  # two leases: six beats, two ttls
        assert paid == 1
        may_end.set()
        await replies_to(outsider, [first, second])
    assert paid == 1


@asynccontextmanager
async def process(settings: MeshSettings, folder: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """A worker in a process of its own, at work on a step."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "POISE_BROKER": settings.broker,
        "POISE_REDIS_URL": settings.redis_url or "",
        "POISE_LEASE_TTL": str(settings.lease_ttl),
    }
    command = [sys.executable, paying_worker.__file__, str(folder)]
    started = await asyncio.create_subprocess_exec(*command, env=environment)
    try:
        yield started
    finally:
        if started.returncode is None:
            started.kill()
        await started.wait()


@pytest.mark.parametrize("fate", ["killed", "stopped"])
async def test_the_step_of_a_worker_that_is_gone_is_taken_over_and_one_that_comes_back_answers_alike(
    settings: MeshSettings, outsider: Outsider, tmp_path: Path, holders: list[LeaseHolder], fate: str
) -> None:
    paid = 0

    async def pay() -> str:
        nonlocal paid
        paid += 1
        return "in its place"

    run = uuid4().hex
    async with process(settings, tmp_path) as holder:
        sent = [await send(outsider, run)]
        await until((tmp_path / "paid").exists)
        async with serving(settings, tier(pay)):
            sent += await send_to_each_partition(outsider, run)
            await until(lambda: len(holders[0].held) >= 3)  # ours wait for the process's lease
            assert paid == 0
            holder.send_signal(signal.SIGKILL if fate == "killed" else signal.SIGSTOP)
            await until(lambda: paid == 1)
            if fate == "stopped":
                (tmp_path / "go").touch()
                holder.send_signal(signal.SIGCONT)
                await until((tmp_path / "ended").exists)
                holder.send_signal(signal.SIGTERM)  # it publishes what it has, and leaves
                assert await holder.wait() == 0
            replies = await replies_to(outsider, sent)
    assert paid == 1
    assert (tmp_path / "paid").read_text() == "x"
    assert {Completion.parse(reply.value or b"").text for reply in replies} == {"in its place"}


# -- Redis -------------------------------------------------------------------------------------------------------------


async def test_redis_may_be_absent_go_and_come_back(
    settings: MeshSettings, outsider: Outsider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "OPEN_FOR", 0.05)
    paid, may_end = 0, asyncio.Event()

    async def pay() -> str:
        nonlocal paid
        paid += 1
        await may_end.wait()
        return f"{paid}"

    async def answered_twice(run: str) -> list[bytes | None]:
        return [(await outsider.reply(await send(outsider, run))).value for _ in range(2)]

    def back() -> bool:
        return (1.0, {}) in observations(semconv.REDIS_UP)

    may_end.set()
    async with Valkey(tmp_path / "valkey") as valkey:
        with_valkey = settings.model_copy(update={"redis_url": valkey.url})
        await valkey.stop()
        async with serving(with_valkey, tier(pay)):
            before = await answered_twice(uuid4().hex)
            assert paid == 2  # at least once: nobody could know of the first copy
            assert before[0] != before[1]
            await valkey.start()
            await until(back)

            may_end.clear()
            during = await send(outsider, uuid4().hex)
            await until(lambda: paid == 3)
            await valkey.stop()
            may_end.set()
            assert Completion.parse((await outsider.reply(during)).value or b"").text == "3"
            await valkey.start()
            await until(back)

            may_end.clear()
            repeated = uuid4().hex
            first = await send(outsider, repeated)
            await until(lambda: paid == 4)
            await valkey.stop()
            await valkey.start()
            await until(back)
            may_end.set()
            replies = [await outsider.reply(first), await outsider.reply(await send(outsider, repeated))]
            assert paid == 4  # back in time for the reply
            assert replies[0].value == replies[1].value

            await valkey.stop()
            after = await outsider.reply(await send(outsider, repeated))
            assert Completion.parse(after.value or b"").text == "5"


# -- faults ------------------------------------------------------------------------------------------------------------


async def _failing(
    settings: MeshSettings, outsider: Outsider, error: PoiseError
) -> tuple[int, list[bytes | None], int]:
    """How often two copies were handled, what they were answered, and how many dead letters there are."""
    handled, run = 0, uuid4().hex

    async def fail() -> str:
        nonlocal handled
        handled += 1
        raise error

    async with serving(settings, tier(fail)) as mesh:
        replies = [(await outsider.reply(await send(outsider, run))).value for _ in range(2)]
        letters = await mesh.logs.read_topic(dead_letter_topic_name("inference"))
    assert all(Fault.parse(reply or b"") == error.fault() for reply in replies)
    return handled, replies, len([letter for letter in letters if letter.header("poise-run") == run])


async def test_a_final_fault_is_sent_again_as_it_was_and_its_message_is_one_dead_letter(
    settings: MeshSettings, outsider: Outsider
) -> None:
    handled, replies, letters = await _failing(settings, outsider, TerminalError("never"))
    assert (handled, letters) == (1, 1)
    assert replies[0] == replies[1]


async def test_a_fault_that_may_pass_is_not_kept(settings: MeshSettings, outsider: Outsider) -> None:
    handled, _, _ = await _failing(settings, outsider, RetryableError("not now", retry_after=1_000))
    assert handled == 2


async def test_what_is_sent_again_from_a_dead_letter_topic_is_handled_again(
    settings: MeshSettings, outsider: Outsider
) -> None:
    handled, run = 0, uuid4().hex

    async def at_the_second_try() -> str:
        nonlocal handled
        handled += 1
        if handled == 1:
            raise TerminalError("not yet")
        return "done"

    async with serving(settings, tier(at_the_second_try)):
        await outsider.reply(await send(outsider, run))
        for _ in range(2):  # sent again twice, it has one effect
            sent = await send(outsider, run, poise_redrives="1")
            assert Completion.parse((await outsider.reply(sent)).value or b"").text == "done"
    assert handled == 2


async def test_a_message_that_nothing_identifies_is_handled_each_time(
    settings: MeshSettings, outsider: Outsider
) -> None:
    handled, run = 0, uuid4().hex

    async def pay() -> str:
        nonlocal handled
        handled += 1
        return f"{handled}"

    async with serving(settings, tier(pay)):
        for number in (b"1", b"2"):  # two steps of the run, and nobody said which
            sent = await outsider.send(INFERENCE_INTERACTIVE.name, BODY, poise_run=run)
            assert number in ((await outsider.reply(sent)).value or b"")


async def test_an_entry_that_cannot_be_read_is_no_reason_to_stay_silent(
    settings: MeshSettings, outsider: Outsider
) -> None:
    async def pay() -> str:
        return "again"

    run = uuid4().hex
    async with RedisClient(settings.redis_url) as cache:
        entry = Lease.for_step("default", run, "g", Generate.kind, "0", token=ME)
        assert await LeaseStore(cache).store(entry, StoredReply("completion/9", b"?"), 60) is LeaseStatus.ACQUIRED
    async with serving(settings, tier(pay)):
        reply = await outsider.reply(await send(outsider, run))
    assert Completion.parse(reply.value or b"").text == "again"


# -- the leases --------------------------------------------------------------------------------------------------------


@pytest.fixture
async def leases(valkey: str) -> AsyncIterator[LeaseStore]:
    async with RedisClient(valkey) as cache:
        yield LeaseStore(cache)


def lease(token: str, run: str) -> Lease:
    return Lease.for_step("t", run, "s", token=token)


async def test_one_token_holds_a_step_and_another_can_neither_write_nor_let_go_of_it(leases: LeaseStore) -> None:
    run, reply = uuid4().hex, StoredReply("completion/1", b'{"a":\n1}')
    mine, other = lease("mine", run), lease("other", run)
    assert await leases.acquire(mine, 60) is LeaseStatus.ACQUIRED
    assert await leases.acquire(other, 60) is LeaseStatus.HELD_ELSEWHERE
    assert await leases.store(other, reply, 60) is LeaseStatus.HELD_ELSEWHERE
    await leases.release(other)
    assert await leases.acquire(other, 60) is LeaseStatus.HELD_ELSEWHERE
    assert await leases.store(mine, reply, 60) is LeaseStatus.ACQUIRED
    assert await leases.acquire(other, 60) == reply
    assert await leases.store(other, StoredReply("completion/1", b"{}"), 60) == reply
    await leases.renew(mine, 60)
    await leases.release(mine)
    assert await leases.acquire(mine, 60) == reply


async def test_a_lease_that_is_let_go_is_free_at_once(leases: LeaseStore) -> None:
    run = uuid4().hex
    assert await leases.acquire(lease("mine", run), 60) is LeaseStatus.ACQUIRED
    await leases.release(lease("mine", run))
    await leases.renew(lease("mine", run), 60)  # on its way when it was let go of
    assert await leases.acquire(lease("other", run), 60) is LeaseStatus.ACQUIRED


@pytest.mark.parametrize("written", [True, False])
async def test_leases_and_replies_end_by_themselves(leases: LeaseStore, *, written: bool) -> None:
    run = uuid4().hex
    assert await leases.acquire(lease("mine", run), 0.2) is LeaseStatus.ACQUIRED
    if written:
        assert await leases.store(lease("mine", run), StoredReply("k/1", b"x"), 0.2) is LeaseStatus.ACQUIRED
    async with asyncio.timeout(20):
        while await leases.acquire(lease("other", run), 60) is not LeaseStatus.ACQUIRED:  # noqa: ASYNC110 - in the server
            await asyncio.sleep(0.02)


async def test_steps_are_told_apart(leases: LeaseStore) -> None:
    run = uuid4().hex
    for identity in (("a", f"{run}:b"), (f"a:{run}", "b"), ("a", run, "b"), ("a", f"{run}%3Ab")):
        assert await leases.acquire(Lease.for_step(*identity, token=ME), 60) is LeaseStatus.ACQUIRED, identity
        assert await leases.acquire(Lease.for_step(*identity, token=OTHER), 60) is LeaseStatus.HELD_ELSEWHERE, identity


async def test_a_cache_that_cannot_be_reached_is_no_error() -> None:
    async with RedisClient("redis://127.0.0.1:1/0") as cache:
        absent = LeaseStore(cache)
        assert await absent.acquire(lease("x", "r"), 60) is LeaseStatus.UNKNOWN
        assert await absent.store(lease("x", "r"), StoredReply("k/1", b"x"), 60) is LeaseStatus.UNKNOWN
        await absent.renew(lease("x", "r"), 60)
        await absent.release(lease("x", "r"))


async def test_more_steps_at_once_than_connections(leases: LeaseStore) -> None:
    run = uuid4().hex
    found = await asyncio.gather(*(leases.acquire(lease(f"{n}", f"{run}-{n}"), 60) for n in range(500)))
    assert set(found) == {LeaseStatus.ACQUIRED}
