"""Documents and deletions outside of their keys' partitions are moved once and in order."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest
from confluent_kafka import Message as Delivered
from confluent_kafka import Producer
from retrieval_kit import RetrievalClient, RetrievalWorker, StartWorker, context_of

from poise.contracts import Deletion, Document, Epoch, Passages
from poise.contracts.headers import MOVED_FROM, MOVED_TO, MOVED_WRITTEN
from poise.contracts.topics import DOCUMENTS, HOUR, dead_letter_topic_name
from poise.kafka.partitioner import partition_for
from poise.kafka.record import Position, Record
from poise.worker.runtime import WorkerRuntime
from poise_services.retrieval import publishing

pytestmark = pytest.mark.integration

WITHIN = 20.0


def document(key: str, word: str) -> bytes:
    return Document(text=f"{word} " * 90, source=f"{key}.txt").encode()


def words_in(found: Passages, key: str) -> set[str]:
    return {passage.text.split()[0] for passage in found.passages if passage.id.startswith(f"{key}#")}


async def astray(client: RetrievalClient, key: str, by: int = 1) -> int:
    """Return a partition other than the key's."""
    right = await client.mesh.logs.partition_of(DOCUMENTS.name, key.encode())
    return (right + by) % DOCUMENTS.partitions


async def written_of(mesh: WorkerRuntime, key: str) -> list[Record]:
    """Return the records of a document in `poise.documents`, ordered by partition and offset."""
    found = [record for record in await mesh.logs.read_topic(DOCUMENTS.name) if record.key == key.encode()]
    return sorted(found, key=lambda record: (record.partition, record.offset))


async def put(mesh: WorkerRuntime, key: str, word: str | None, partition: int | None, **headers: str) -> Position:
    value = None if word is None else document(key, word)
    named = [(name.replace("_", "-"), text.encode()) for name, text in headers.items()]
    return await mesh.producer.records.send(DOCUMENTS.name, value, key=key.encode(), headers=named, partition=partition)


def key_that_crc32_puts_elsewhere(broker: str, value: Callable[[str], bytes], key: str) -> tuple[str, Position]:
    """Write documents until librdkafka's default partitioner disagrees with murmur2; return that key and its epoch."""
    producer = Producer({"bootstrap.servers": broker})
    delivered: list[Delivered] = []
    for number in range(100):
        name = f"{key}-{number}"
        producer.produce(DOCUMENTS.name, value(name), key=name.encode(), on_delivery=lambda _, at: delivered.append(at))
        producer.flush(WITHIN)
        partition, offset = delivered[-1].partition(), delivered[-1].offset()
        assert partition is not None
        assert offset is not None
        if partition != partition_for(name.encode(), DOCUMENTS.partitions):
            return name, Position(DOCUMENTS.name, partition, offset)
    raise AssertionError("crc32 and murmur2 agree a hundred times")


async def test_documents_partitioned_by_librdkafkas_default_are_found_and_deleted(
    client: RetrievalClient, serving: StartWorker, kafka: str, key: str
) -> None:
    """Check that a search can wait for the epoch of the position in the wrong partition."""
    async with serving() as worker:
        # A search returns one of several passages with equal texts, so each candidate has its own.
        name, at = await asyncio.to_thread(
            key_that_crc32_puts_elsewhere, kafka, lambda n: document(n, f"first-{n}"), key
        )
        assert words_in(await client.search("first", after=at), name) == {f"first-{name}"}
        again = await put(client.mesh, name, "second", at.partition)
        assert words_in(await client.search("second", after=again), name) == {"second"}
        gone = await put(client.mesh, name, None, at.partition)
        assert words_in(await client.search("second", after=gone), name) == set()
        copies = [record for record in await written_of(client.mesh, name) if record.header(MOVED_FROM)]
        seen = await worker.live_index.visible_version(name)
    assert [copy.header(MOVED_FROM) for copy in copies] == [str(at), str(again), str(gone)]
    assert [copy.header("poise-origin") for copy in copies] == [str(at), str(again), str(gone)]
    assert (seen.version, seen.passage_count) == (copies[-1].offset, 0)


async def test_a_deletion_removes_the_document_from_every_partition(
    client: RetrievalClient, serving: StartWorker, key: str
) -> None:
    """Check the partition that the text was written to: the text would stay there otherwise."""
    async with serving():
        wrong = await astray(client, key)
        await client.search("x", after=await put(client.mesh, key, "secret", wrong))
        await client.search("x", after=await client.put(key, None))
        async with asyncio.timeout(WITHIN), client.mesh.logs.open_stream(DOCUMENTS.name) as log:
            async for records in log:
                if any(record.key == key.encode() and record.header(MOVED_TO) for record in records):
                    break
        last = {record.partition: record.value for record in await written_of(client.mesh, key)}
    assert set(last) == {wrong, await client.mesh.logs.partition_of(DOCUMENTS.name, key.encode())}
    assert set(last.values()) == {None}


@pytest.mark.parametrize("value", ["again", None])
async def test_a_moved_copy_is_not_moved_again(
    client: RetrievalClient, serving: StartWorker, key: str, value: str | None
) -> None:
    async with serving():
        wrong = await astray(client, key)
        await put(client.mesh, key, value, wrong, poise_moved_from="poise.documents/0/0")
        async with (
            asyncio.timeout(WITHIN),
            client.mesh.logs.open_stream(dead_letter_topic_name("retrieval")) as dead_letters,
        ):
            async for records in dead_letters:
                if found := [record for record in records if record.key == key.encode()]:
                    break
    assert "is a copy in partition" in (found[0].header("poise-dead-message") or "")
    assert len(await written_of(client.mesh, key)) == 1


# -- replays, orders, two workers --------------------------------------------------------------------------------------


async def deliver(worker: RetrievalWorker, record: Record) -> None:
    """Handle a record as if the consumer group had delivered it."""
    context = context_of(worker.mesh, record)
    if record.value is None:
        await worker.publisher.delete(Deletion(), context)
    else:
        await worker.publisher.publish(Document.parse(record.value), context)


async def record_at(mesh: WorkerRuntime, at: Position) -> Record:
    (found,) = [record for record in await mesh.logs.read_topic(DOCUMENTS.name) if record.position == at]
    return found


async def test_a_redelivered_record_is_copied_once(client: RetrievalClient, following: StartWorker, key: str) -> None:
    """Redeliver the record to another worker, whose index starts at the beginning of the log."""
    async with following("a") as one:
        stray = await record_at(client.mesh, await put(client.mesh, key, "old", await astray(client, key)))
        await deliver(one, stray)
        await deliver(one, next(r for r in await written_of(client.mesh, key) if r.header(MOVED_FROM)))
        newer = await client.put(key, "new " * 90)
        await deliver(one, await record_at(client.mesh, newer))
        before = await written_of(client.mesh, key)
    async with following("b") as other:
        await deliver(other, stray)
        await deliver(other, next(r for r in before if r.header(MOVED_FROM)))
        assert await written_of(client.mesh, key) == before
        assert [part.content.text.split()[0] for part in await other.live_index.stored_passages(key)] == ["new"]
        epoch = other.live_index.epoch
    assert epoch.reached(Epoch(epoch.topic_id, {stray.partition: (stray.offset, 0.0)}))


async def test_across_partitions_the_write_time_decides_and_the_log_ends_with_the_visible_version(
    client: RetrievalClient, following: StartWorker, key: str
) -> None:
    """Move the older version last, as may happen with a round-robin client."""
    async with following("a") as worker:
        old = await record_at(client.mesh, await put(client.mesh, key, "old", await astray(client, key, 1)))
        new = await record_at(client.mesh, await put(client.mesh, key, "new", await astray(client, key, 2)))
        key_partition = await client.mesh.logs.partition_of(DOCUMENTS.name, key.encode())
        old = replace(old, timestamp=new.timestamp - 0.01)
        await deliver(worker, new)
        await deliver(worker, old)
        handled = 0
        while len(copies := [r for r in await written_of(client.mesh, key) if r.partition == key_partition]) > handled:
            await deliver(worker, copies[handled])
            handled += 1
        assert [copy.header(MOVED_FROM) for copy in copies] == [
            str(new.position),
            str(old.position),
            str(copies[0].position),
        ]
        assert [part.content.text.split()[0] for part in await worker.live_index.stored_passages(key)] == ["new"]
        assert Document.parse(copies[-1].value or b"").text.startswith("new")
        epoch = worker.live_index.epoch
    async with following("b") as replica:
        assert [part.content.text.split()[0] for part in await replica.live_index.stored_passages(key)] == ["new"]
    strays = {record.partition: (record.offset, 0.0) for record in (old, new)}
    assert epoch.reached(Epoch(epoch.topic_id, strays))


async def test_a_client_clock_that_is_set_back_does_not_change_the_order(
    client: RetrievalClient, following: StartWorker, key: str
) -> None:
    async with following() as worker:
        wrong = await astray(client, key)
        key_partition = await client.mesh.logs.partition_of(DOCUMENTS.name, key.encode())
        first = await record_at(client.mesh, await put(client.mesh, key, "first", wrong))
        second = await record_at(client.mesh, await put(client.mesh, key, "second", wrong))
        behind = replace(second, timestamp=first.timestamp - 3_600)
        await deliver(worker, first)
        await deliver(worker, behind)
        for copy in [r for r in await written_of(client.mesh, key) if r.partition == key_partition]:
            await deliver(worker, copy)
        assert [part.content.text.split()[0] for part in await worker.live_index.stored_passages(key)] == ["second"]


async def test_an_epoch_is_not_reached_before_the_copy_can_be_found(
    client: RetrievalClient, following: StartWorker, key: str
) -> None:
    async with following() as worker:
        stray = await record_at(client.mesh, await put(client.mesh, key, "word", await astray(client, key)))
        await deliver(worker, stray)
        epoch = Epoch(worker.live_index.epoch.topic_id, {stray.partition: (stray.offset, 0.0)})
        assert not worker.live_index.epoch.reached(epoch)
        (copy,) = [r for r in await written_of(client.mesh, key) if r.header(MOVED_WRITTEN)]
        await deliver(worker, copy)
        assert worker.live_index.epoch.reached(epoch)


# -- retention ---------------------------------------------------------------------------------------------------------


async def keys_of(client: RetrievalClient, key: str, partition: int, number: int) -> list[str]:
    """Return keys that belong to the given partition."""
    names = [f"{key}-{n}" for n in range(40 * number)]
    found = [name for name in names if await client.mesh.logs.partition_of(DOCUMENTS.name, name.encode()) == partition]
    return found[:number]


async def test_a_deletion_handled_late_deletes_a_copy_moved_after_it(
    client: RetrievalClient, following: StartWorker, key: str
) -> None:
    """Check that a deletion is retained from when it was handled, not written: both records waited for hours."""
    async with following() as worker:
        key_partition = await client.mesh.logs.partition_of(DOCUMENTS.name, key.encode())
        stray = await record_at(client.mesh, await put(client.mesh, key, "word", await astray(client, key)))
        gone = await record_at(client.mesh, await client.put(key, None))
        stray, gone = (replace(r, timestamp=r.timestamp - n * HOUR) for r, n in ((stray, 3), (gone, 2)))
        await deliver(worker, gone)
        for name in await keys_of(client, key, key_partition, 3):  # handling further records expires old ones
            await deliver(worker, await record_at(client.mesh, await client.put(name, None)))
        await deliver(worker, stray)
        (copy,) = [r for r in await written_of(client.mesh, key) if r.header(MOVED_FROM)]
        await deliver(worker, copy)
        assert await worker.live_index.stored_passages(key) == []
        assert (await worker.live_index.visible_version(key)).passage_count == 0


async def test_notes_of_moved_absent_deletions_expire_in_log_and_replicas(
    client: RetrievalClient, following: StartWorker, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "ABSENT_RETENTION", 0.0)
    key_partition = await client.mesh.logs.partition_of(DOCUMENTS.name, key.encode())
    wrong = await astray(client, key)
    names = await keys_of(client, key, key_partition, 4)
    async with following("a") as worker:
        for name in names:
            stray = await record_at(client.mesh, await put(client.mesh, name, None, wrong))
            await deliver(worker, stray)
            (copy,) = [r for r in await written_of(client.mesh, name) if r.header(MOVED_FROM)]
            await deliver(worker, copy)
        epoch = worker.live_index.epoch
        moved = {
            name: [r.value for r in await client.passage_records(name) if (r.key or b"").endswith(b"#moved")]
            for name in names
        }
        known = [name for name in names if await worker.live_index.copied_records(name)]
    assert [moved[name][-1] is None for name in names] == [True, True, True, False]
    assert known == names[3:]
    async with following("b") as replica:
        assert [name for name in names if await replica.live_index.copied_records(name)] == known
        assert replica.live_index.epoch.reached(epoch)
