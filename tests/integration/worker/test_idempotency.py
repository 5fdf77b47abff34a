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
from integration_kit import PlainKafkaClient, serving, until

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
"""Seconds: on a busy machine, a process may well have to wait for one second."""

ME = "me"

Pay = Callable[[], Awaitable[str]]


def tier(pay: Pay) -> Tier:
    async def handle(_request: Generate, _context: Context) -> Completion:
        return Completion(text=await pay(), model="m", backend="b", finish_reason="stop")

    return Tier("inference", {Generate: handle})


async def send(plain_client: PlainKafkaClient, run: str, partition: int = 0, **headers: str) -> Record:
    named: dict[str, Any] = {"poise_run": run, "poise_step": "g", **headers}
    return await plain_client.send(INFERENCE_INTERACTIVE.name, BODY, key=KEYS[partition], **named)


async def send_to_each_partition(plain_client: PlainKafkaClient, run: str) -> list[Record]:
    return [await send(plain_client, run, partition) for partition in range(6)]


async def replies_to(plain_client: PlainKafkaClient, sent: list[Record]) -> list[Record]:
    """Return the first reply to each message."""
    wanted, found = {record.header("correlation_id") for record in sent}, dict[str | None, Record]()
    async with asyncio.timeout(30):
        while found.keys() < wanted:
            reply = Record.of(await plain_client._consumer.getone())
            found.setdefault(reply.header("correlation_id"), reply)
    return list(found.values())


@pytest.fixture
def holders(monkeypatch: pytest.MonkeyPatch) -> list[LeaseHolder]:
    """Return the lease holders of the workers that a test starts in this process."""
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


async def test_copies_wait_for_the_reply_of_the_one_that_is_handled(
    settings: MeshSettings, plain_client: PlainKafkaClient, holders: list[LeaseHolder]
) -> None:
    paid, may_end = 0, asyncio.Event()

    async def pay() -> str:
        nonlocal paid
        paid += 1
        await may_end.wait()
        return f"{paid}"

    other = settings.model_copy(update={"instance": f"{settings.instance}-2"})
    async with serving(settings, tier(pay)), serving(other, tier(pay)):
        sent = await send_to_each_partition(plain_client, uuid4().hex)
        one, two = holders
        await until(lambda: len(one.renewing) + len(two.renewing) == 6)
        assert one.renewing
        assert two.renewing
        assert paid == 1
        may_end.set()
        replies = await replies_to(plain_client, sent)
    assert paid == 1
    assert len({reply.value for reply in replies}) == 1


async def test_a_lease_is_renewed_while_its_holder_lives(
    settings: MeshSettings, plain_client: PlainKafkaClient, holders: list[LeaseHolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    paid, renewals, may_end = 0, 0, asyncio.Event()
    renew = LeaseStore.renew

    async def counted(leases: LeaseStore, lease: Lease, ttl: float) -> None:
        nonlocal renewals
        await renew(leases, lease, ttl)
        renewals += 1

    async def pay() -> str:
        nonlocal paid
        paid += 1
        await may_end.wait()
        return "x"

    monkeypatch.setattr(LeaseStore, "renew", counted)
    async with serving(settings, tier(pay)):
        run = uuid4().hex
        first = await send(plain_client, run)
        await until(lambda: paid == 1)
        second = await send(plain_client, run)
        await until(lambda: len(holders[0].renewing) == 2)
        await until(lambda: renewals >= 12)  # two leases, six renewals each: two TTLs
        assert paid == 1
        may_end.set()
        await replies_to(plain_client, [first, second])
    assert paid == 1


@asynccontextmanager
async def process(settings: MeshSettings, folder: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """Start a worker as a process; its handler ends a step on request."""
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


@pytest.mark.parametrize("end", ["killed", "stopped"])
async def test_a_step_of_a_killed_or_stopped_worker_is_taken_over(
    settings: MeshSettings, plain_client: PlainKafkaClient, tmp_path: Path, holders: list[LeaseHolder], end: str
) -> None:
    paid = 0

    async def pay() -> str:
        nonlocal paid
        paid += 1
        return "instead"

    run = uuid4().hex
    async with process(settings, tmp_path) as holder:
        sent = [await send(plain_client, run)]
        await until((tmp_path / "paid").exists)
        async with serving(settings, tier(pay)):
            sent += await send_to_each_partition(plain_client, run)
            await until(lambda: len(holders[0].renewing) >= 3)  # the copies here wait for the lease of the process
            assert paid == 0
            holder.send_signal(signal.SIGKILL if end == "killed" else signal.SIGSTOP)
            await until(lambda: paid == 1)
            if end == "stopped":
                (tmp_path / "go").touch()
                holder.send_signal(signal.SIGCONT)
                await until((tmp_path / "ended").exists)
                holder.send_signal(signal.SIGTERM)  # it publishes its replies and stops
                assert await holder.wait() == 0
            replies = await replies_to(plain_client, sent)
    assert paid == 1
    assert (tmp_path / "paid").read_text() == "x"
    assert {Completion.parse(reply.value or b"").text for reply in replies} == {"instead"}


# -- Redis -------------------------------------------------------------------------------------------------------------


async def test_messages_are_answered_while_redis_is_stopped_and_restarted(
    settings: MeshSettings, plain_client: PlainKafkaClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "OPEN_FOR", 0.05)
    paid, may_end = 0, asyncio.Event()

    async def pay() -> str:
        nonlocal paid
        paid += 1
        await may_end.wait()
        return f"{paid}"

    async def replies_to_two_copies(run: str) -> list[bytes | None]:
        return [(await plain_client.reply(await send(plain_client, run))).value for _ in range(2)]

    def redis_is_up() -> bool:
        return (1.0, {}) in observations(semconv.REDIS_UP)

    may_end.set()
    async with Valkey(tmp_path / "valkey") as valkey:
        with_valkey = settings.model_copy(update={"redis_url": valkey.url})
        await valkey.stop()
        async with serving(with_valkey, tier(pay)):
            before = await replies_to_two_copies(uuid4().hex)
            assert paid == 2  # at least once: without Redis, the first copy is unknown
            assert before[0] != before[1]
            await valkey.start()
            await until(redis_is_up)

            may_end.clear()
            during = await send(plain_client, uuid4().hex)
            await until(lambda: paid == 3)
            await valkey.stop()
            may_end.set()
            assert Completion.parse((await plain_client.reply(during)).value or b"").text == "3"
            await valkey.start()
            await until(redis_is_up)

            may_end.clear()
            repeated = uuid4().hex
            first = await send(plain_client, repeated)
            await until(lambda: paid == 4)
            await valkey.stop()
            await valkey.start()
            await until(redis_is_up)
            may_end.set()
            replies = [await plain_client.reply(first), await plain_client.reply(await send(plain_client, repeated))]
            assert paid == 4  # Redis was back before the reply
            assert replies[0].value == replies[1].value

            await valkey.stop()
            after = await plain_client.reply(await send(plain_client, repeated))
            assert Completion.parse(after.value or b"").text == "5"


# -- faults ------------------------------------------------------------------------------------------------------------


async def _failing(
    settings: MeshSettings, plain_client: PlainKafkaClient, error: PoiseError
) -> tuple[int, list[bytes | None], int]:
    """Send two copies; return the handler calls, both replies and the number of dead letters."""
    handled, run = 0, uuid4().hex

    async def fail() -> str:
        nonlocal handled
        handled += 1
        raise error

    async with serving(settings, tier(fail)) as mesh:
        replies = [(await plain_client.reply(await send(plain_client, run))).value for _ in range(2)]
        letters = await mesh.logs.read_topic(dead_letter_topic_name("inference"))
    assert all(Fault.parse(reply or b"") == error.fault() for reply in replies)
    return handled, replies, len([letter for letter in letters if letter.header("poise-run") == run])


async def test_a_terminal_fault_is_repeated_unchanged_with_one_dead_letter(
    settings: MeshSettings, plain_client: PlainKafkaClient
) -> None:
    handled, replies, letters = await _failing(settings, plain_client, TerminalError("never"))
    assert (handled, letters) == (1, 1)
    assert replies[0] == replies[1]


async def test_a_retryable_fault_is_not_stored(settings: MeshSettings, plain_client: PlainKafkaClient) -> None:
    handled, _, _ = await _failing(settings, plain_client, RetryableError("not now", retry_after=1_000))
    assert handled == 2


async def test_a_redriven_message_is_handled_again_once(settings: MeshSettings, plain_client: PlainKafkaClient) -> None:
    handled, run = 0, uuid4().hex

    async def succeed_at_second_attempt() -> str:
        nonlocal handled
        handled += 1
        if handled == 1:
            raise TerminalError("not yet")
        return "done"

    async with serving(settings, tier(succeed_at_second_attempt)):
        await plain_client.reply(await send(plain_client, run))
        for _ in range(2):  # redriven twice, it is handled once
            sent = await send(plain_client, run, poise_redrives="1")
            assert Completion.parse((await plain_client.reply(sent)).value or b"").text == "done"
    assert handled == 2


async def test_messages_without_a_step_are_handled_each_time(
    settings: MeshSettings, plain_client: PlainKafkaClient
) -> None:
    handled, run = 0, uuid4().hex

    async def pay() -> str:
        nonlocal handled
        handled += 1
        return f"{handled}"

    async with serving(settings, tier(pay)):
        for number in (b"1", b"2"):  # two messages of the run, neither with a step
            sent = await plain_client.send(INFERENCE_INTERACTIVE.name, BODY, poise_run=run)
            assert number in ((await plain_client.reply(sent)).value or b"")


async def test_an_unreadable_entry_is_ignored_and_the_message_handled(
    settings: MeshSettings, plain_client: PlainKafkaClient
) -> None:
    async def pay() -> str:
        return "again"

    run = uuid4().hex
    async with RedisClient(settings.redis_url) as cache:
        entry = Lease.for_step("default", run, "g", Generate.kind, "0", token=ME)
        assert await LeaseStore(cache).store(entry, StoredReply("completion/9", b"?"), 60) is LeaseStatus.OWNED
    async with serving(settings, tier(pay)):
        reply = await plain_client.reply(await send(plain_client, run))
    assert Completion.parse(reply.value or b"").text == "again"
