"""The index store: it switches whole versions, survives a crash and rebuilds itself if damaged."""

import os
import pickle
import shutil
import signal
import subprocess
import sys
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from poise.contracts import Manifest, PassageRecord
from poise.errors import SetupError
from poise.kafka.record import Record
from poise_services.retrieval.passages import PassageContent, encode_vector
from poise_services.retrieval.store import IndexFolder, IndexStore, StoreOrigin
from poise_services.retrieval.version_assembler import AssembledVersion

ORIGIN = StoreOrigin(documents="docs-1", passages="passages-1", model="m")
NEVER = 1e9


def vector(text: str) -> np.ndarray:
    drawn = np.random.default_rng(zlib.crc32(text.encode())).normal(size=384).astype(np.float32)
    return drawn / np.linalg.norm(drawn)


class PassageLog:
    """One partition of `poise.passages`, as the store reads it."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def add(self, message: PassageRecord | Manifest, version: int, partition: int = 0) -> None:
        headers = (("poise-kind", message.kind.encode()), ("poise-doc-version", str(version).encode()))
        value = message.encode()
        self.records.append(Record("poise.passages", partition, len(self.records), 1.0, b"", value, headers))

    def say(self, document: str, version: int, texts: list[str], *, model: str = "m") -> None:
        for number, text in enumerate(texts):
            self.add(
                PassageRecord(
                    document=document,
                    part=number,
                    source=f"{document}.txt",
                    heading="Title" if number else None,
                    text=text,
                    vector=encode_vector(vector(text)),
                    model=model,
                    published=float(version),
                ),
                version,
            )
        self.add(Manifest(document=document, parts=len(texts), published=float(version)), version)


@contextmanager
def opened(folder: Path, origin: StoreOrigin = ORIGIN) -> Iterator[IndexStore]:
    with IndexFolder(folder) as index_folder:
        store = index_folder.open(origin, checkpoint_interval=NEVER)
        try:
            yield store
        finally:
            store.close()


def apply(store: IndexStore, records: Iterable[Record]) -> None:
    for record in records:
        store.apply(record)


def texts_for(store: IndexStore, query: str) -> list[str]:
    found = store.index.search(query, vector(""), limit=10, candidates=50)
    return [passage.text for passage in found]


@pytest.fixture
def log() -> PassageLog:
    log = PassageLog()
    log.say("a", 3, ["the zebra grazes", "the lion sleeps"])
    log.say("b", 4, ["a giraffe is tall"])
    return log


def test_a_search_returns_source_and_part(tmp_path: Path, log: PassageLog) -> None:
    with opened(tmp_path) as store:
        apply(store, log.records)
        best = store.index.search("lion", vector(""), limit=10, candidates=50)[0]
        assert (best.document, best.passage_number, best.source, best.heading) == ("a", 1, "a.txt", "Title")
        assert best.document_written_at == 3.0
        assert store.epoch.partitions == {0: (4, 4.0)}


def test_a_sparse_search(tmp_path: Path, log: PassageLog) -> None:
    with opened(tmp_path) as store:
        apply(store, log.records)
        found = store.index.search("does a lion sleep", None, limit=10, candidates=50)
        assert [passage.text for passage in found] == ["the lion sleeps"]
        assert store.index.search("what does it do", None, limit=10, candidates=50) == []


def test_a_dense_search(tmp_path: Path, log: PassageLog) -> None:
    with opened(tmp_path) as store:
        apply(store, log.records)
        found = store.index.search("nothing of the kind", vector("the zebra grazes"), limit=1, candidates=50)
        assert [passage.text for passage in found] == ["the zebra grazes"]
        assert texts_for(store, "what is it")


def test_duplicate_texts_are_returned_once(tmp_path: Path) -> None:
    log = PassageLog()
    log.say("a", 1, ["the same words"])
    log.say("b", 2, ["the same words"])
    with opened(tmp_path) as store:
        apply(store, log.records)
        assert texts_for(store, "same words") == ["the same words"]


def test_a_version_is_visible_at_its_manifest_and_drops_surplus_parts(tmp_path: Path, log: PassageLog) -> None:
    with opened(tmp_path) as store:
        apply(store, log.records)
        before = len(log.records)
        log.say("a", 7, ["the okapi hides"])
        apply(store, log.records[before:-1])
        assert "the okapi hides" not in texts_for(store, "okapi")
        apply(store, log.records[-1:])
        assert sorted(texts_for(store, "okapi")) == ["a giraffe is tall", "the okapi hides"]
        log.say("a", 9, [])
        apply(store, log.records[-1:])
        assert texts_for(store, "okapi") == ["a giraffe is tall"]
        assert store.metadata.version_of("a").version == 9


def test_stored_passages_round_trip(tmp_path: Path, log: PassageLog) -> None:
    with opened(tmp_path) as store:
        apply(store, log.records)
        first, second = store.index.get_passages("a", 2)
        assert (first.content, second.content) == (
            PassageContent(None, "the zebra grazes"),
            PassageContent("Title", "the lion sleeps"),
        )
        assert first.vector is not None
        assert first.vector.tolist() == vector("the zebra grazes").tolist()


def test_a_part_of_another_model_is_found_by_sparse_search(tmp_path: Path) -> None:
    log = PassageLog()
    log.say("a", 1, ["the platypus swims"], model="another")
    with opened(tmp_path) as store:
        apply(store, log.records)
        assert texts_for(store, "platypus") == ["the platypus swims"]
        assert store.index.get_passages("a", 1)[0].vector is None


def test_an_unreadable_record_changes_nothing(tmp_path: Path, log: PassageLog) -> None:
    junk = Record("poise.passages", 0, 99, 1.0, b"x", b"{", (("poise-doc-version", b"5"),))
    with opened(tmp_path) as store:
        with pytest.raises(ValueError, match="kind None is not known"):
            store.apply(junk)
        assert store.next_offsets == {0: 100}, "it is not waited for"
        apply(store, log.records)
        assert len(store.index) == 3


def test_a_write_error_is_not_attributed_to_a_record(
    tmp_path: Path, log: PassageLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_version: AssembledVersion, _now: float) -> None:
        raise ValueError("no space left on device")

    with opened(tmp_path) as store:
        monkeypatch.setattr(store.metadata, "record_version", full)
        with pytest.raises(SetupError, match=r"the index cannot be written \(no space left on device\)"):
            apply(store, log.records)


def test_it_resumes_after_a_close(tmp_path: Path, log: PassageLog) -> None:
    with opened(tmp_path) as store:
        apply(store, log.records)
    with opened(tmp_path) as again:
        assert again.next_offsets == {0: len(log.records)}
        assert again.epoch == store.epoch
        assert len(again.index) == 3


def test_it_reads_incomplete_versions_again(tmp_path: Path, log: PassageLog) -> None:
    with opened(tmp_path) as store:
        apply(store, log.records[:4])  # document a complete, b without its manifest
    with opened(tmp_path) as again:
        assert again.next_offsets == {0: 3}
        apply(again, log.records[3:])
        assert "a giraffe is tall" in texts_for(again, "giraffe")


WRITE_UNTIL_KILLED = """
import os, pickle, signal, sys
from pathlib import Path
from poise_services.retrieval.store import IndexFolder
origin, records = pickle.loads(sys.stdin.buffer.read())
store = IndexFolder(Path(sys.argv[1])).open(origin, checkpoint_interval=1e9)
for number, record in enumerate(records):
    store.apply(record)
    if number == len(records) // 2:
        store.checkpoint()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_worker_loses_nothing(tmp_path: Path) -> None:
    log = PassageLog()
    for version in range(40):
        log.say(f"doc{version % 7}", version, [f"version {version} part {part}" for part in range(version % 5)])
    ended = subprocess.run(
        [sys.executable, "-c", WRITE_UNTIL_KILLED, str(tmp_path)],
        input=pickle.dumps((ORIGIN, log.records)),
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL
    with opened(tmp_path) as store:
        assert 0 < store.next_offsets[0] < len(log.records)
        apply(store, [record for record in log.records if record.offset >= store.next_offsets[0]])
        newest = {f"doc{version % 7}": version for version in range(40)}
        for document, version in newest.items():
            parts = store.index.get_passages(document, 10)
            assert [part.content.text for part in parts] == [f"version {version} part {n}" for n in range(version % 5)]
        assert len(store.index) == sum(version % 5 for version in newest.values())


@pytest.mark.parametrize("name", ["ledger.sqlite", "passages/edge_config.json", "passages/segments"])
def test_a_damaged_folder_is_rebuilt(
    tmp_path: Path, log: PassageLog, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(tmp_path) as store:
        apply(store, log.records)
    damaged = tmp_path / "0" / name
    if damaged.is_dir():
        shutil.rmtree(damaged)
    else:
        damaged.write_bytes(b"no such thing" * 100)
    with opened(tmp_path) as again:
        assert len([record for record in caplog.records if "rebuilt" in record.message]) == 1
        assert again.next_offsets == {}
        apply(again, log.records)
        assert len(again.index) == 3


@pytest.mark.parametrize(
    "origin",
    [
        StoreOrigin("docs-2", "passages-2", "m"),
        StoreOrigin("docs-1", "passages-2", "m"),
        StoreOrigin("docs-1", "passages-1", "n"),
    ],
)
def test_a_store_of_another_origin_is_rebuilt(tmp_path: Path, log: PassageLog, origin: StoreOrigin) -> None:
    with opened(tmp_path) as store:
        apply(store, log.records)
    with opened(tmp_path, origin) as again:
        assert (again.next_offsets, len(again.index)) == ({}, 0)


def test_recreated_documents_without_recreated_passages_are_rejected(tmp_path: Path, log: PassageLog) -> None:
    with opened(tmp_path) as store:
        apply(store, log.records)
    other = StoreOrigin("docs-2", "passages-1", "m")
    with pytest.raises(SetupError, match=r"delete poise\.passages too"), opened(tmp_path, other):
        pass


def test_recreated_documents_are_accepted_while_there_is_no_passage(tmp_path: Path) -> None:
    with opened(tmp_path):
        pass
    with opened(tmp_path, StoreOrigin("docs-2", "passages-1", "m")) as store:
        assert store.epoch.topic_id == "docs-2"


def test_a_recreated_store_is_empty(tmp_path: Path, log: PassageLog) -> None:
    with IndexFolder(tmp_path) as index_folder:
        store = index_folder.open(ORIGIN, checkpoint_interval=NEVER)
        apply(store, log.records)
        again = index_folder.recreate(store, ORIGIN, checkpoint_interval=NEVER)
        assert (again.next_offsets, len(again.index)) == ({}, 0)
        with pytest.raises(Exception, match="not initialized"):
            store.index.search("lion", None, limit=1, candidates=5)
        apply(again, log.records)
        again.close()
    with opened(tmp_path) as reopened:
        assert len(reopened.index) == 3


def test_each_worker_has_its_own_folder(tmp_path: Path) -> None:
    with IndexFolder(tmp_path) as first:
        with IndexFolder(tmp_path) as second:
            assert (first.path.name, second.path.name) == ("0", "1")
        with IndexFolder(tmp_path) as third:
            assert third.path.name == "1"


def test_an_unwritable_folder_is_a_one_line_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SetupError, match="POISE_STATE_DIR"):
        IndexFolder(tmp_path / "file")
