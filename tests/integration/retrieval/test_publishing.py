"""Publishing passages: what readers see and what the log contains, with repeated and late deliveries."""

import asyncio
from collections.abc import Iterable
from uuid import uuid4

import pytest
from retrieval_kit import RetrievalClient, StartWorker

from poise.contracts import Epoch, Manifest, PassageRecord, Passages
from poise.contracts.topics import DOCUMENTS, PASSAGES, VERSIONS, dead_letter_topic_name
from poise.errors import SetupError
from poise.kafka.record import Record
from poise_services.retrieval import publishing
from poise_services.retrieval.version_assembler import AssembledVersion

pytestmark = pytest.mark.integration


def text_of(*words: str) -> str:
    """Return a text with one passage per word."""
    return "\n\n".join(f"{word} " * 90 for word in words)


def compacted(records: Iterable[Record]) -> dict[str, tuple[int, PassageRecord | Manifest]]:
    """Return what compaction leaves of a log: version and body by key."""
    left = {(record.key or b"").decode(): record for record in records}
    return {
        key: (int(record.header("poise-doc-version") or ""), _body(record))
        for key, record in left.items()
        if record.value is not None
    }


def _body(record: Record) -> PassageRecord | Manifest:
    return (Manifest if record.header("poise-kind") == Manifest.kind else PassageRecord).parse(record.value or b"")


def words_in(found: Passages, key: str) -> set[str]:
    return {passage.text.split()[0] for passage in found.passages if passage.id.startswith(f"{key}#")}


async def test_a_document_is_found_replaced_and_deleted(
    client: RetrievalClient, serving: StartWorker, key: str
) -> None:
    async with serving() as worker:
        first = await client.put(key, text_of("aardvark", "badger", "capybara"))
        found = await client.search("badger", after=first)
        assert words_in(found, key) == {"aardvark", "badger", "capybara"}
        best = found.passages[0]
        assert (best.id, best.source, best.text.split()[0]) == (f"{key}#1", f"{key}.txt", "badger")
        assert 0 <= best.age < 60
        assert found.mode == "hybrid"

        second = await client.put(key, text_of("dingo"))
        assert words_in(await client.search("dingo", after=second), key) == {"dingo"}

        third = await client.put(key, None)
        assert words_in(await client.search("dingo", after=third), key) == set()
        assert (await worker.live_index.visible_version(key)).version == third.offset


async def test_the_compacted_log_has_the_same_state(client: RetrievalClient, serving: StartWorker, key: str) -> None:
    async with serving():
        await client.search("x", after=await client.put(key, text_of("aardvark", "badger", "capybara")))
        second = await client.put(key, text_of("dingo"))
        await client.search("x", after=second)
        log = await client.passage_records(key)
        assert {record.partition for record in log} == {second.partition}
        left = compacted(log)
        assert {name: version for name, (version, _) in left.items()} == {
            f"{key}#0": second.offset,
            f"{key}#manifest": second.offset,
        }
        manifest = left[f"{key}#manifest"][1]
        assert isinstance(manifest, Manifest)
        assert manifest.parts == 1

        third = await client.put(key, None)
        await client.search("x", after=third)
        left = compacted(await client.passage_records(key))
        assert list(left) == [f"{key}#manifest"]
        version, manifest = left[f"{key}#manifest"]
        assert isinstance(manifest, Manifest)
        assert (version, manifest.parts) == (third.offset, 0)


async def test_one_worker_embeds_and_every_worker_finds(
    client: RetrievalClient, serving: StartWorker, key: str
) -> None:
    async with serving("a") as one, serving("b") as other:
        position = await client.put(key, text_of("aardvark", "badger"))
        for worker in (one, other):
            async with asyncio.timeout(20):
                await worker.live_index.wait_for_epoch(Epoch.decode(await client.epoch_at(position)))
            found = await worker.live_index.search("badger", await worker.embedder.embed_query("x"), 5)
            assert (found[0].document, found[0].passage_number) == (key, 1)
        assert (
            len([text for worker in (one, other) for text in worker.embedder.embedded_texts if "aardvark" in text]) == 1
        )


async def test_a_new_replica_builds_its_index_and_a_restarted_one_resumes(
    client: RetrievalClient, serving: StartWorker, following: StartWorker, key: str
) -> None:
    async with serving("a"):
        position = await client.put(key, text_of("aardvark", "badger"))
        await client.search("x", after=position)
    async with following("new") as worker:
        assert (await worker.live_index.visible_version(key)).version == position.offset
        assert worker.live_index._store is not None
        passages = len(worker.live_index._store.index)
        epoch = worker.live_index.epoch
    async with following("new") as worker:
        assert worker.live_index.epoch == epoch
        assert worker.live_index._store is not None
        assert len(worker.live_index._store.index) == passages


async def test_unchanged_passages_are_not_embedded_again(
    client: RetrievalClient, serving: StartWorker, key: str
) -> None:
    async with serving() as worker:
        await client.search("x", after=await client.put(key, text_of("aardvark", "badger")))
        worker.embedder.embedded_texts.clear()
        await client.search("x", after=await client.put(key, text_of("badger", "capybara")))
        assert [text.split()[0] for text in worker.embedder.embedded_texts] == ["capybara"]


async def test_a_late_old_version_changes_nothing(client: RetrievalClient, following: StartWorker, key: str) -> None:
    async with following() as worker:
        old, new = await client.put(key, None), await client.put(key, None)
        await worker.handle_document(key, text_of("new"), new)
        before = await client.passage_records(key)
        await worker.handle_document(key, text_of("old"), old)
        await worker.handle_document(key, text_of("again"), new)
        assert await client.passage_records(key) == before


async def test_a_newer_version_is_written_again_after_an_overlapping_old_one(
    client: RetrievalClient, following: StartWorker, key: str
) -> None:
    """Let one worker embed version 1 while the new owner handles 1 again and then 2, as after a rebalance."""
    async with following("a") as zombie, following("b") as owner:
        old, new = await client.put(key, None), await client.put(key, None)
        zombie.embedder.resumed.clear()
        late = asyncio.create_task(zombie.handle_document(key, text_of("old", "older", "oldest"), old))
        await zombie.embedder.started.wait()
        await owner.handle_document(key, text_of("old", "older", "oldest"), old)
        await owner.handle_document(key, text_of("new", "newer"), new)
        zombie.embedder.resumed.set()
        await late
        left = compacted(await client.passage_records(key))
        assert {name: version for name, (version, _) in left.items()} == dict.fromkeys(
            (f"{key}#0", f"{key}#1", f"{key}#manifest"), new.offset
        )
        for worker in (zombie, owner):
            assert [part.content.text.split()[0] for part in await worker.live_index.stored_passages(key)] == [
                "new",
                "newer",
            ]
    async with following("c") as replica:
        assert [part.content.text.split()[0] for part in await replica.live_index.stored_passages(key)] == [
            "new",
            "newer",
        ]


async def test_a_deletion_is_not_undone_by_an_overlapping_version(
    client: RetrievalClient, following: StartWorker, key: str
) -> None:
    async with following("a") as zombie, following("b") as owner:
        old, new = await client.put(key, None), await client.put(key, None)
        zombie.embedder.resumed.clear()
        late = asyncio.create_task(zombie.handle_document(key, text_of("old", "older"), old))
        await zombie.embedder.started.wait()
        await owner.handle_deletion(key, new)
        zombie.embedder.resumed.set()
        await late
        left = compacted(await client.passage_records(key))
        assert {name: version for name, (version, _) in left.items()} == {f"{key}#manifest": new.offset}
        assert await zombie.live_index.stored_passages(key) == []


async def test_a_document_with_an_invalid_key_becomes_a_dead_letter(
    client: RetrievalClient, serving: StartWorker
) -> None:
    async with serving():
        key = b"\xff" + uuid4().bytes
        await client.mesh.producer.records.send(DOCUMENTS.name, b'{"text": "x", "source": "y"}', key=key, headers=[])
        assert "key: is not UTF-8" in await _dead_letter(client, key)
        key = f"a\nline {uuid4().hex}".encode()
        await client.mesh.producer.records.send(DOCUMENTS.name, None, key=key, headers=[])
        assert "key: is not a document id" in await _dead_letter(client, key)


async def _dead_letter(client: RetrievalClient, key: bytes) -> str:
    """Return the error message of the dead letter with this key."""
    async with asyncio.timeout(20), client.mesh.logs.open_stream(dead_letter_topic_name("retrieval")) as follower:
        async for records in follower:
            for record in records:
                if record.key == key:
                    return str(record.header("poise-dead-message"))
    raise AssertionError("following does not end")


async def test_an_index_failure_ends_the_worker_with_a_one_line_error(
    client: RetrievalClient, following: StartWorker, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_version: AssembledVersion, _now: float) -> None:
        raise OSError("no space left on device")

    async def work() -> None:
        async with following() as worker:
            assert worker.live_index._store is not None
            monkeypatch.setattr(worker.live_index._store.metadata, "record_version", full)
            await worker.handle_document(key, text_of("aardvark"), await client.put(key, None))

    with pytest.raises(SetupError, match=r"the index cannot be written \(no space left on device\)"):
        await work()


async def test_deletions_of_documents_that_never_existed_expire(
    client: RetrievalClient, serving: StartWorker, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Check that they are not announced and expire from log and metadata a few at a time; real deletions do not."""
    word = f"w{uuid4().hex}"  # the log has documents of other tests
    monkeypatch.setattr(publishing, "MAX_ABSENT", 3)
    async with serving() as worker:
        there = await client.put(key, text_of(word))
        await client.search(word, after=there)
        partition = there.partition
        names = [f"{key}-{number}" for number in range(400)]
        never = [
            name for name in names if await worker.mesh.logs.partition_of(DOCUMENTS.name, name.encode()) == partition
        ]
        assert len(never) > 20
        for name in (never[0], never[0], *never[1:]):
            last = await client.put(name, None)
        await client.search(word, after=last)

        async def read(topic: str, name: str) -> list[Record]:
            return [r for r in await worker.mesh.logs.read_topic(topic) if (r.key or b"").decode() == name]

        assert [await read(VERSIONS.name, name) for name in never] == [[]] * len(never)
        kept = [name for name in never if (await worker.live_index.visible_version(name)).version >= 0]
        assert kept == never[-len(kept) :]
        assert len(kept) <= 5
        assert all([(await worker.live_index.visible_version(name)).absent for name in kept])
        manifests = [(await read(PASSAGES.name, f"{name}#manifest"))[-1] for name in never]
        assert [record.value is None for record in manifests] == [name not in kept for name in never]

        assert words_in(await client.search(word, after=last), key) == {word}
        gone = await client.put(key, None)
        assert words_in(await client.search(word, after=gone), key) == set()
        assert (await read(VERSIONS.name, key))[-1].value is not None
        assert not (await worker.live_index.visible_version(key)).absent
        again = await client.put(kept[-1], text_of(f"{word}again"))
        assert words_in(await client.search(f"{word}again", after=again), kept[-1]) == {f"{word}again"}


@pytest.mark.timeout(120)
async def test_documents_with_slow_patterns_are_handled_in_time(
    client: RetrievalClient, serving: StartWorker, key: str
) -> None:
    async with serving():
        for number, text in enumerate(("# a" + " " * 30_000 + "x", "|" + " " * 45_000 + "x", "A. " * 2_000)):
            last = await client.put(f"{key}-{number}", f"{text}\n\nzebra{number}")
            assert (await client.search(f"zebra{number}", after=last)).passages[0].id.startswith(f"{key}-{number}#")


async def test_three_thousand_titles_become_few_passages(
    client: RetrievalClient, serving: StartWorker, key: str
) -> None:
    text = "".join(f"title{number}\n=========\n\n" for number in range(1_000))
    async with serving():
        await client.search("title7", after=await client.put(key, text))
        written = [record for record in await client.passage_records(key) if record.value is not None]
    assert len(written) <= 32 + len(text) // 100 + 1
