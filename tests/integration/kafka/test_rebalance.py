"""Commits around rebalances: each sentence of the promise in DESIGN has a test."""

import asyncio
from collections import Counter
from collections.abc import Collection

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import RequestTimedOutError
from group_kit import HeldCommit, Member, group
from integration_kit import until

from poise.kafka.consumer import ConsumerLimits
from poise.kafka.group_state import GroupState
from poise.kafka.offset_metadata import decode
from poise.kafka.record import Record

pytestmark = pytest.mark.integration

IMPATIENT = ConsumerLimits(concurrency=64, drain_timeout=0.1)


def hang_on(member: Member, *offsets: int) -> asyncio.Event:
    """Make a member hang on some offsets of partition 0 until the returned event is set."""
    release = asyncio.Event()

    async def handle(record: Record) -> None:
        if record.partition == 0 and record.offset in offsets:
            await release.wait()

    member.handle = handle
    return release


async def test_messages_finished_above_a_hanging_one_are_not_handled_again_after_a_restart(kafka: str) -> None:
    async with group(kafka) as readers:
        async with readers.member(IMPATIENT) as one:
            hang_on(one, 0, 7)
            await readers.write(300)
            await until(lambda: len(one.done) == 298)
        commit = await readers.committed()
        assert commit is not None
        assert (commit.offset, decode(0, commit.finished)) == (0, [range(1, 7), range(8, 300)])
        async with readers.member() as two:
            await readers.write(1)
            await until(lambda: "0/300" in two.done)
            await readers.until_committed(301)
        assert sorted(two.given) == ["0/0", "0/300", "0/7"]


async def test_a_delayed_commit_is_not_accepted_after_another_member_moved_the_partition(kafka: str) -> None:
    async with group(kafka, partitions=2) as readers, readers.member() as one:
        hold = HeldCommit(one, RequestTimedOutError())
        await readers.write(10, partition=0)
        await readers.write(10, partition=1)
        await hold.held.wait()
        async with readers.member() as two:
            [moved] = two.partitions
            [kept] = {0, 1} - {moved}
            await readers.write(10, partition=moved)
            await readers.until_committed(20, moved)
            hold.release.set()
            await hold.failed.wait()
            # One's next commit, under the new generation, is accepted, as a retry of the delayed one would be.
            await readers.write(1, partition=kept)
            await readers.until_committed(11, kept)
            now = await readers.committed(moved)
            assert now is not None
            assert now.offset == 20


async def test_messages_in_progress_are_recognized_when_their_partition_comes_back(kafka: str) -> None:
    async with group(kafka) as readers, readers.member() as one:
        release = hang_on(one, 0, 1, 2)
        await readers.write(5)
        await until(lambda: len(one.done) == 2)
        before = one.generation
        async with readers.member() as two:  # sticky: the only partition stays, but is revoked and assigned again
            assert not two.partitions
        await until(lambda: one.generation > before + 1)
        release.set()
        await readers.until_committed(5)
        assert max(Counter(one.given).values()) == 1


async def test_messages_in_progress_of_a_lost_partition_finish_and_are_never_committed(kafka: str) -> None:
    async with group(kafka, partitions=2) as readers, readers.member() as one:
        release = asyncio.Event()

        async def hang(_record: Record) -> None:
            await release.wait()

        one.handle = hang
        await readers.write(3, partition=0)
        await readers.write(3, partition=1)
        await until(lambda: len(one.given) == 6)
        async with readers.member() as two:
            [moved] = two.partitions
            await until(lambda: len(two.done) == 3)  # the new owner handles them: the first had not finished
            await readers.write(4, partition=moved)
            await readers.until_committed(7, moved)
            release.set()
            await until(lambda: len(one.done) == 6)
            await readers.until_committed(3, ({0, 1} - {moved}).pop())
            now = await readers.committed(moved)
            assert now is not None
            assert now.offset == 7


async def test_a_partition_that_another_member_owned_in_between_restarts(kafka: str) -> None:
    """Let a member lose its partitions and get them back, as after an absence beyond the session timeout."""
    async with group(kafka) as readers, readers.member(IMPATIENT) as one:
        release = hang_on(one, 3)
        await readers.write(6)
        await until(lambda: len(one.done) == 5)
        hang_on(one, 8)
        await readers.write(4)
        await until(lambda: len(one.done) == 8)
        await readers.until_committed(3)
        at = TopicPartition(readers.topic, 0)
        await one.concurrent_consumer.on_partitions_revoked({at})
        await one.consumer.commit({at: 10})  # as the other member did
        await one.concurrent_consumer.on_partitions_assigned({at})
        release.set()  # 3 is finished, 8 is not: by its own knowledge, this member would commit 8
        await until(lambda: len(one.done) == 9)
        await readers.write(1)
        await readers.until_committed(11)


async def test_nothing_is_committed_until_the_groups_commits_are_known(
    kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with group(kafka) as readers, readers.member(IMPATIENT) as one:
        release = hang_on(one, 3)
        await readers.write(6)
        await until(lambda: len(one.done) == 5)
        await readers.until_committed(3)
        at, known = TopicPartition(readers.topic, 0), asyncio.Event()
        fetch_state = one.concurrent_consumer.offsets._fetch_state

        async def slowly(partitions: Collection[TopicPartition]) -> GroupState:
            await known.wait()
            return await fetch_state(partitions)

        monkeypatch.setattr(one.concurrent_consumer.offsets, "_fetch_state", slowly)
        await one.concurrent_consumer.on_partitions_revoked({at})
        await one.consumer.commit({at: 10})  # as another member did
        assigning = asyncio.create_task(one.concurrent_consumer.on_partitions_assigned({at}))
        release.set()
        await until(lambda: len(one.done) == 6)
        await one.concurrent_consumer.offsets.commit()  # as it does regularly: this member only knows 6
        now = await readers.committed()
        assert now is not None
        assert now.offset == 10
        known.set()
        await assigning


async def test_a_partition_is_read_even_if_the_groups_commits_cannot_be_fetched(
    kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(_partitions: Collection[TopicPartition]) -> GroupState:
        raise KeyError("a bug in a client library")

    async with group(kafka) as readers, readers.member(IMPATIENT) as one:
        monkeypatch.setattr(one.concurrent_consumer.offsets, "_fetch_state", fails)
        async with readers.member() as two:  # a rebalance
            await until(lambda: one.generation == two.generation)
        await readers.write(5)
        await until(lambda: len(one.done) == 5)
        await readers.until_committed(5)


async def test_slow_handlers_do_not_remove_a_member_from_its_group(kafka: str) -> None:
    """Check that polling continues while the buffer is full: Kafka removes a member that does not poll."""
    async with group(kafka) as readers, readers.member(ConsumerLimits(concurrency=2), max_poll_interval=1.0) as one:
        release, before = asyncio.Event(), one.generation

        async def hang(_record: Record) -> None:
            await release.wait()

        one.handle = hang
        await readers.write(20)
        await until(lambda: len(one.consumer.paused()) == 1)
        async with readers.member() as two:  # causes a rebalance, which removes a member that does not poll
            assert one.partitions | two.partitions == {0}
        await until(lambda: one.generation > before + 1)
        assert one.partitions == {0}
        release.set()
        await readers.until_committed(20)
        assert max(Counter(one.given).values()) == 1


async def test_a_partition_whose_metadata_is_full_is_paused_until_it_has_room(
    kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("poise.kafka.offset_metadata._MAX_BYTES", 4)
    async with group(kafka) as readers, readers.member() as one:
        release = hang_on(one, *range(0, 20, 2))
        await readers.write(60)
        await until(lambda: bool(one.consumer.paused()))
        await readers.write(100)
        taken = len(one.given)
        assert taken <= 60
        release.set()
        await readers.until_committed(160)
        assert len(one.done) == 160


async def test_a_busy_key_leaves_buffer_for_the_others(kafka: str) -> None:
    async with (
        group(kafka, partitions=2) as readers,
        readers.member(ConsumerLimits(concurrency=4), ordered=True) as one,
    ):
        release = hang_on(one, 0)
        await readers.write(100, partition=0, key=b"busy")
        await until(lambda: "0/0" in one.given)
        await readers.write(50, partition=1, key=b"quiet")
        await until(lambda: sum(name.startswith("1/") for name in one.done) == 50)
        assert not [name for name in one.done if name.startswith("0/")]
        release.set()
        await readers.until_committed(100)
        assert [name for name in one.done if name.startswith("0/")] == [f"0/{n}" for n in range(100)]


async def test_the_buffer_is_also_bounded_by_bytes(kafka: str) -> None:
    async with group(kafka) as readers, readers.member(ConsumerLimits(concurrency=64, max_bytes=10)) as one:
        release = hang_on(one, *range(50))
        await readers.write(10)  # of one byte each
        await until(lambda: bool(one.consumer.paused()))
        await readers.write(40)
        assert len(one.given) <= 10
        release.set()
        await readers.until_committed(50)
