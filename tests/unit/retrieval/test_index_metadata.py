"""Index metadata: the retention of absent deletions and of notes of moved records."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from poise.contracts import CopyNote
from poise.contracts.topics import HOUR
from poise_services.retrieval.index_metadata import IndexMetadata
from poise_services.retrieval.version_assembler import AssembledVersion

NOW = 1_000_000.0
MAX_RETAINED = 100


@pytest.fixture
def metadata(tmp_path: Path) -> Iterator[IndexMetadata]:
    found = IndexMetadata(tmp_path / "ledger.sqlite")
    yield found
    found.close()


def deleted(name: str, number: int, *, published: float = NOW, absent: bool = True) -> AssembledVersion:
    return AssembledVersion(name, 0, number, (), published, absent=absent)


def expired(metadata: IndexMetadata, before: float, max_retained: int = MAX_RETAINED) -> list[tuple[str, int]]:
    return metadata.expired_deletions(0, before=before, max_retained=max_retained, limit=10)


def test_an_absent_deletion_is_retained_from_when_it_was_handled(metadata: IndexMetadata) -> None:
    """Check late deletions: a deletion, and the document that it deletes, may wait long to be handled."""
    for number, name in enumerate("ab"):
        metadata.record_version(deleted(name, number, published=NOW - 5 * HOUR), NOW)
    assert expired(metadata, before=NOW) == []
    assert expired(metadata, before=NOW + 1) == [("a", 0)]
    assert expired(metadata, before=NOW, max_retained=1) == [("a", 0)]


def test_the_last_absent_deletion_is_retained(metadata: IndexMetadata) -> None:
    """Check that the deletion is kept: a replica built from the log needs it to reach the same epoch."""
    metadata.record_version(deleted("a", 0), NOW)
    metadata.record_version(deleted("b", 1), NOW)
    metadata.record_copy(CopyNote(document="x", partition=1, version=7, published=NOW), 0, 9, NOW)
    metadata.record_version(AssembledVersion("y", 1, 7, (), NOW), NOW)
    metadata.apply_copies(1)
    assert metadata.epoch("t").partitions[0][0] == 9
    assert expired(metadata, before=NOW + HOUR) == [("a", 0)]


# -- moved records ----------------------------------------------------------------------------------------------------


def move(metadata: IndexMetadata, name: str, offset: int, *, deletion: bool = True, now: float = NOW) -> None:
    """Apply the note that a record of partition 0 was copied to partition 1, at the same offset."""
    noted = CopyNote(document=name, partition=1, version=offset, published=now, deletion=deletion or None)
    metadata.record_copy(noted, 0, offset, now)


def handle(metadata: IndexMetadata, name: str, number: int, *, absent: bool = True) -> None:
    metadata.record_version(AssembledVersion(name, 1, number, (), NOW, absent=absent), NOW)
    metadata.apply_copies(1)


def expired_copies(
    metadata: IndexMetadata, before: float = NOW + 1, max_retained: int = MAX_RETAINED
) -> list[tuple[str, int]]:
    return metadata.expired_copied_deletions(0, before=before, max_retained=max_retained, limit=10)


def test_notes_of_moved_absent_deletions_expire_except_the_last(
    metadata: IndexMetadata,
) -> None:
    for offset, name in enumerate("abc"):
        move(metadata, name, offset)
        handle(metadata, name, offset)
    metadata.remove_deletion("a", 0)  # the deletion itself may expire first
    assert expired_copies(metadata, before=NOW) == []
    assert expired_copies(metadata) == [("a", 0), ("b", 1)]
    assert expired_copies(metadata, before=NOW, max_retained=2) == [("a", 0)]
    metadata.remove_copy("a", 0, 0)
    assert metadata.copied_records("a") == {}
    assert expired_copies(metadata) == [("b", 1)]
    move(metadata, "b", 7)
    metadata.remove_copy("b", 0, 1)
    assert metadata.copied_records("b")[0].offset == 7


def test_notes_of_moved_documents_and_real_deletions_do_not_expire(metadata: IndexMetadata) -> None:
    move(metadata, "said", 0, deletion=False)
    handle(metadata, "said", 0, absent=False)
    move(metadata, "was there", 1)
    handle(metadata, "was there", 1, absent=False)
    move(metadata, "said again", 2)
    move(metadata, "said again", 3, deletion=False)
    handle(metadata, "said again", 3)
    move(metadata, "not handled yet", 4)
    move(metadata, "last", 5)
    for _ in range(2):
        assert expired_copies(metadata, before=NOW + 5 * HOUR) == []
    assert set(metadata.copied_records("was there")) == {0}
