"""In any order of records, readers never see a partial document, or an older version after a newer one."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from poise.contracts import Manifest, PassageRecord
from poise_services.retrieval.version_assembler import AssembledVersion, VersionAssembler

DOCUMENTS = ("a", "b")


@dataclass
class PassagePartition:
    """One partition of `poise.passages`: (key, version, message or tombstone)."""

    records: list[tuple[str, int, PassageRecord | Manifest | None]] = field(default_factory=list)

    def compacted(self) -> list[tuple[int, tuple[str, int, PassageRecord | Manifest | None]]]:
        last = {key: offset for offset, (key, _, _) in enumerate(self.records)}
        return [(offset, record) for offset, record in enumerate(self.records) if last[record[0]] == offset]

    def whole(self) -> list[tuple[int, tuple[str, int, PassageRecord | Manifest | None]]]:
        return list(enumerate(self.records))


@dataclass
class AssembledVersions:
    assembly: VersionAssembler = field(default_factory=VersionAssembler)
    seen: dict[str, AssembledVersion] = field(default_factory=dict)

    def read(self, records: Iterable[tuple[int, tuple[str, int, PassageRecord | Manifest | None]]]) -> None:
        for offset, (_, number, message) in records:
            if message is None:
                continue
            before = self.seen[message.document].version_number if message.document in self.seen else -1
            version = self.assembly.add(message, partition=0, offset=offset, version_number=number, current=before)
            if version is not None:
                assert version.version_number > before
                assert [part.part for part in version.passages] == list(range(len(version.passages)))
                assert all(
                    part.text == text_of(part.document, version.version_number, part.part) for part in version.passages
                )
                self.seen[version.document] = version


def text_of(document: str, number: int, part: int) -> str:
    return f"{document} {number} {part}"


def part(document: str, number: int, index: int) -> PassageRecord:
    text = text_of(document, number, index)
    return PassageRecord(document=document, part=index, source="s", text=text, vector="", model="m", published=1.0)


def writing(
    document: str, number: int, parts: int, before: int
) -> list[tuple[str, int, PassageRecord | Manifest | None]]:
    """Return the records of a version: parts, tombstones, manifest."""
    return [
        *((f"{document}#{index}", number, part(document, number, index)) for index in range(parts)),
        *((f"{document}#{index}", number, None) for index in range(parts, before)),
        (f"{document}#manifest", number, Manifest(document=document, parts=parts, published=1.0)),
    ]


histories = st.lists(st.tuples(st.sampled_from(DOCUMENTS), st.integers(0, 4)), min_size=1, max_size=8)


def in_turn(history: list[tuple[str, int]]) -> PassagePartition:
    log, sizes = PassagePartition(), dict.fromkeys(DOCUMENTS, 0)
    for number, (document, parts) in enumerate(history):
        log.records += writing(document, number, parts, sizes[document])
        sizes[document] = parts
    return log


@given(histories, st.data())
def test_the_newest_version_is_visible_from_the_whole_log_the_compacted_log_and_after_a_restart(
    history: list[tuple[str, int]], data: st.DataObject
) -> None:
    log = in_turn(history)
    newest = {document: (number, parts) for number, (document, parts) in enumerate(history)}
    cut = data.draw(st.integers(0, len(log.records)))
    restarted = AssembledVersions()
    restarted.read(log.whole()[:cut])
    resume = restarted.assembly.resume_offsets({0: cut})[0]
    restarted.assembly = VersionAssembler()
    restarted.read(log.whole()[resume:])
    readers = [AssembledVersions(), AssembledVersions(), restarted]
    readers[0].read(log.whole())
    readers[1].read(log.compacted())
    for reader in readers:
        assert {name: (v.version_number, len(v.passages)) for name, v in reader.seen.items()} == newest
        assert not len(reader.assembly)


@given(histories, st.randoms(use_true_random=False), st.integers(0, 3))
def test_overlapping_writers_never_show_a_partial_or_old_document(
    history: list[tuple[str, int]], random: Random, repeats: int
) -> None:
    """Interleave and repeat writers, as zombies, redeliveries and retries do; each writer's records stay in order."""
    writers = [writing(document, number, parts, 4) for number, (document, parts) in enumerate(history)]
    writers += [list(random.choice(writers)) for _ in range(repeats)]
    log = PassagePartition()
    while any(writers):
        log.records.append(random.choice([writer for writer in writers if writer]).pop(0))
    reader, late = AssembledVersions(), AssembledVersions()
    reader.read(log.whole())
    late.read(log.compacted())
    newest = {document: number for number, (document, _) in enumerate(history)}
    assert {name: version.version_number for name, version in reader.seen.items()} == newest


def test_reading_resumes_at_the_earliest_record_of_an_incomplete_version() -> None:
    assembly = VersionAssembler()
    assembly.add(part("a", 3, 0), partition=1, offset=10, version_number=3, current=-1)
    assembly.add(part("a", 3, 1), partition=1, offset=12, version_number=3, current=-1)
    assembly.add(part("b", 4, 0), partition=2, offset=7, version_number=4, current=-1)
    assert assembly.resume_offsets({0: 5, 1: 13, 2: 8}) == {0: 5, 1: 10, 2: 7}
    manifest = Manifest(document="a", parts=2, published=1.0)
    assert assembly.add(manifest, partition=1, offset=13, version_number=3, current=-1) is not None
    assert assembly.resume_offsets({0: 5, 1: 14, 2: 8}) == {0: 5, 1: 14, 2: 7}
