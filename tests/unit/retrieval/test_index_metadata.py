"""The metadata: how long it is remembered that something was never there, or was moved."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from poise.contracts import Moved
from poise.contracts.topics import HOUR
from poise_services.retrieval.index_metadata import IndexMetadata
from poise_services.retrieval.version_assembler import AssembledVersion

NOW = 1_000_000.0
MOST = 100


@pytest.fixture
def metadata(tmp_path: Path) -> Iterator[IndexMetadata]:
    found = IndexMetadata(tmp_path / "ledger.sqlite")
    yield found
    found.close()


def deleted(name: str, number: int, *, published: float = NOW, absent: bool = True) -> AssembledVersion:
    return AssembledVersion(name, 0, number, (), published, absent=absent)


def to_forget(metadata: IndexMetadata, before: float, most: int = MOST) -> list[tuple[str, int]]:
    return metadata.expired_deletions(0, before=before, most=most, limit=10)


def test_a_deletion_of_what_was_not_there_is_remembered_from_when_it_is_handled(metadata: IndexMetadata) -> None:
    """However long it waited for that: what it deletes may have waited for as long."""
    for number, name in enumerate("ab"):
        metadata.record_version(deleted(name, number, published=NOW - 5 * HOUR), NOW)
    assert to_forget(metadata, before=NOW) == []
    assert to_forget(metadata, before=NOW + 1) == [("a", 0)]
    assert to_forget(metadata, before=NOW, most=1) == [("a", 0)]


def test_the_last_deletion_of_what_was_not_there_is_kept(metadata: IndexMetadata) -> None:
    """A replica that is built from the log comes by it to the epoch that this one has."""
    metadata.record_version(deleted("a", 0), NOW)
    metadata.record_version(deleted("b", 1), NOW)
    metadata.record_moved(Moved(document="x", partition=1, version=7, published=NOW), 0, 9, NOW)
    metadata.record_version(AssembledVersion("y", 1, 7, (), NOW), NOW)
    metadata.apply_moved(1)
    assert metadata.epoch("t").parts[0][0] == 9
    assert to_forget(metadata, before=NOW + HOUR) == [("a", 0)]


# -- what was moved ---------------------------------------------------------------------------------------------------


def move(metadata: IndexMetadata, name: str, offset: int, *, deletion: bool = True, now: float = NOW) -> None:
    """Note that a record of partition 0 was copied to partition 1, where its copy has the same offset."""
    noted = Moved(document=name, partition=1, version=offset, published=now, deletion=deletion or None)
    metadata.record_moved(noted, 0, offset, now)


def handle(metadata: IndexMetadata, name: str, number: int, *, absent: bool = True) -> None:
    metadata.record_version(AssembledVersion(name, 1, number, (), NOW, absent=absent), NOW)
    metadata.apply_moved(1)


def moves_to_forget(metadata: IndexMetadata, before: float = NOW + 1, most: int = MOST) -> list[tuple[str, int]]:
    return metadata.expired_moved_deletions(0, before=before, most=most, limit=10)


def test_that_a_deletion_of_what_was_never_there_was_moved_is_forgotten_but_for_the_last(
    metadata: IndexMetadata,
) -> None:
    for offset, name in enumerate("abc"):
        move(metadata, name, offset)
        handle(metadata, name, offset)
    metadata.forget_deletion("a", 0)  # its own deletion may be forgotten first
    assert moves_to_forget(metadata, before=NOW) == []
    assert moves_to_forget(metadata) == [("a", 0), ("b", 1)]
    assert moves_to_forget(metadata, before=NOW, most=2) == [("a", 0)]
    metadata.forget_moved("a", 0, 0)
    assert metadata.moved_records("a") == {}
    assert moves_to_forget(metadata) == [("b", 1)]
    move(metadata, "b", 7)
    metadata.forget_moved("b", 0, 1)
    assert metadata.moved_records("b")[0].offset == 7


def test_that_a_document_was_moved_or_one_that_was_there_deleted_is_not_forgotten(metadata: IndexMetadata) -> None:
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
        assert moves_to_forget(metadata, before=NOW + 5 * HOUR) == []
    assert set(metadata.moved_records("was there")) == {0}
