"""Look-ups in logs of realistic size, bounded in memory and time."""

import time
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from random import Random
from uuid import uuid4

import pytest
import pytest_asyncio
from integration_kit import settings_for_another_process

from poise.contracts.run_id import derive_run_id
from poise.contracts.topics import Topic, dead_letter_topic_name
from poise.dead_letters.admin import DeadLetterAdmin
from poise.dead_letters.filter import DeadLetterFilter
from poise.errors import TerminalError, UnavailableError
from poise.kafka.log_lookup import LogLookup, Window
from poise.kafka.record import Position
from poise.policy import decision_log
from poise.run_log import lookup
from poise.run_log.search_windows import search_windows
from poise.settings import MeshSettings
from poise.worker.runtime import WorkerRuntime

pytestmark = pytest.mark.integration

MIB = 1024 * 1024
BIG = 60
"""Number of records of nearly 1 MiB each that match nothing."""
KEPT = 24 * MIB
"""Memory that a look-up may use at once: prefetched records, and those being decoded."""


@pytest_asyncio.fixture
async def mesh(mesh_settings: MeshSettings) -> AsyncIterator[WorkerRuntime]:
    async with WorkerRuntime(settings_for_another_process(mesh_settings), tier="client") as mesh:
        yield mesh


@contextmanager
def memory_below(most: int) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < most, f"{peak / MIB:.0f} MiB were in memory at once"


async def fill(mesh: WorkerRuntime, topic: str, *, key: bytes | None = None, partition: int | None = None) -> None:
    """Write large records that match nothing."""
    headers = [("poise-dead-topic", b"poise.documents"), ("poise-dead-error", b"ValueError")]
    for _ in range(BIG):
        await mesh.producer.records.send(
            topic, Random().randbytes(900_000), key=key, headers=headers, partition=partition
        )


@pytest_asyncio.fixture
async def log(mesh: WorkerRuntime) -> Topic:
    topic = Topic(f"log-{uuid4().hex[:8]}", (), partitions=2, retention=3_600.0)
    await mesh.admin.create([topic])
    return topic


async def test_records_that_do_not_match_are_not_kept(mesh: WorkerRuntime, log: Topic) -> None:
    number = await mesh.logs.partition_of(log.name, b"mine")
    await mesh.producer.records.send(log.name, b"1", key=b"mine", headers=[])
    await fill(mesh, log.name, partition=number)
    last = await mesh.producer.records.send(log.name, b"2", key=b"mine", headers=[])
    with memory_below(KEPT):
        found = await mesh.logs.lookups.read_key(log.name, "mine")
    assert [record.value for record in found] == [b"1", b"2"]
    with memory_below(KEPT):
        newest = await mesh.logs.lookups.last_of_key(log.name, "mine", [Window("beginning")])
    assert newest is not None
    assert newest.position == last
    with memory_below(KEPT):
        assert await mesh.logs.lookups.read_at(log.name, [last]) == {last: newest}


async def test_the_result_of_a_look_up_is_bounded(mesh: WorkerRuntime, log: Topic) -> None:
    await fill(mesh, log.name, partition=0)
    lookups = LogLookup(mesh.logs.open_stream, mesh.admin, max_bytes=10 * MIB)
    with memory_below(KEPT + 10 * MIB), pytest.raises(TerminalError, match="are larger than 10 MiB: narrow the search"):
        await lookups.matching(log.name, lambda _: True)


async def test_a_look_up_times_out(mesh: WorkerRuntime, log: Topic) -> None:
    await mesh.producer.records.send(log.name, b"1", key=b"mine", headers=[])
    lookups = LogLookup(mesh.logs.open_stream, mesh.admin, timeout=-1.0)
    with pytest.raises(UnavailableError, match=f"topic {log.name} was not read to its end within -1 s"):
        await lookups.read_key(log.name, "mine")


async def test_windows_are_searched_in_order(mesh: WorkerRuntime, log: Topic) -> None:
    now = time.time()

    async def write(value: bytes) -> Position:
        return await mesh.producer.records.send(log.name, value, key=b"mine", headers=[])

    await write(b"old")
    newer = await write(b"newer")
    for windows in (
        [Window("beginning")],
        [Window(now + 60), Window(now - 60)],
        [Window("end"), Window("beginning")],
        [Window(now - 120, now - 60), Window(now - 60, now + 60)],
    ):
        found = await mesh.logs.lookups.last_of_key(log.name, "mine", windows)
        assert found is not None
        assert found.position == newer
    assert await mesh.logs.lookups.last_of_key(log.name, "mine", [Window("beginning", now - 60)]) is None
    assert await mesh.logs.lookups.last_of_key(log.name, "others", [Window(now - 60), Window("beginning")]) is None


async def test_dead_letters_are_listed_without_their_messages(mesh: WorkerRuntime) -> None:
    tier = f"t{uuid4().hex[:8]}"
    await mesh.admin.create(
        [Topic(dead_letter_topic_name(tier), (), partitions=1, retention=3_600.0, max_bytes=3 * MIB)]
    )
    await fill(mesh, dead_letter_topic_name(tier))
    admin = DeadLetterAdmin(mesh.logs, mesh.settings.tenant)
    with memory_below(KEPT):
        letters = await admin.select(DeadLetterFilter(tier=tier))
    assert len(letters) == BIG
    with memory_below(KEPT):
        letter = await admin.load_message(letters[-1])
    assert len(letter.record.value or b"") == letter.size == 900_000


@pytest.mark.parametrize("of", ["a run by Kafka", "trace", "scores", "policy log", "policy recent"])
async def test_commands_keep_in_memory_only_what_they_show(
    mesh: WorkerRuntime, log: Topic, of: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, name in ((lookup, "SPANS"), (lookup, "RECORDS"), (lookup, "SCORES"), (decision_log, "DECISIONS")):
        monkeypatch.setattr(module, name, log)
    runs = lookup.RunLog(mesh.logs, mesh.settings.clock_skew)
    run = derive_run_id("poise.ask.interactive", 0, Random().getrandbits(40), time.time())
    await fill(mesh, log.name, partition=await mesh.logs.partition_of(log.name, run.encode()))
    with memory_below(KEPT):
        match of:
            case "a run by Kafka":
                assert (
                    await mesh.logs.lookups.last_of_key(log.name, run, search_windows(run, time.time(), 2.0).rest)
                    is None
                )
            case "trace":
                assert (await runs.trace(run)).spans == ()
            case "scores":
                assert await runs.scores(time.time() - 60.0) == []
            case "policy log":
                assert await decision_log.decisions(mesh.logs, run) == []
            case "policy recent":
                assert await runs.recent_scores(run) == []
