"""The ledger: how long it is remembered that something was never there, or was moved."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from poise.contracts import Moved
from poise.contracts.topics import HOUR
from poise_services.retrieval.version_assembler import Version
from poise_services.retrieval.version_state import Ledger

NOW = 1_000_000.0
MOST = 100


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    found = Ledger(tmp_path / "ledger.sqlite")
    yield found
    found.close()


def deleted(name: str, number: int, *, published: float = NOW, absent: bool = True) -> Version:
    return Version(name, 0, number, (), published, absent=absent)


def to_forget(ledger: Ledger, before: float, most: int = MOST) -> list[tuple[str, int]]:
    return ledger.absent(0, before=before, most=most, limit=10)


def test_a_deletion_of_what_was_not_there_is_remembered_from_when_it_is_handled(ledger: Ledger) -> None:
    """However long it waited for that: what it deletes may have waited for as long."""
    for number, name in enumerate("ab"):
        ledger.note(deleted(name, number, published=NOW - 5 * HOUR), NOW)
    assert to_forget(ledger, before=NOW) == []
    assert to_forget(ledger, before=NOW + 1) == [("a", 0)]
    assert to_forget(ledger, before=NOW, most=1) == [("a", 0)]


def test_the_last_deletion_of_what_was_not_there_is_kept(ledger: Ledger) -> None:
    """A replica that is built from the log comes by it to the epoch that this one has."""
    ledger.note(deleted("a", 0), NOW)
    ledger.note(deleted("b", 1), NOW)
    ledger.note_moved(Moved(document="x", partition=1, version=7, published=NOW), 0, 9, NOW)
    ledger.note(Version("y", 1, 7, (), NOW), NOW)
    ledger.release(1)
    assert ledger.epoch("t").parts[0][0] == 9
    assert to_forget(ledger, before=NOW + HOUR) == [("a", 0)]


# -- what was moved ---------------------------------------------------------------------------------------------------


def move(ledger: Ledger, name: str, offset: int, *, deletion: bool = True, now: float = NOW) -> None:
    """Note that a record of partition 0 was copied to partition 1, where its copy has the same offset."""
    noted = Moved(document=name, partition=1, version=offset, published=now, deletion=deletion or None)
    ledger.note_moved(noted, 0, offset, now)


def handle(ledger: Ledger, name: str, number: int, *, absent: bool = True) -> None:
    ledger.note(Version(name, 1, number, (), NOW, absent=absent), NOW)
    ledger.release(1)


def moves_to_forget(ledger: Ledger, before: float = NOW + 1, most: int = MOST) -> list[tuple[str, int]]:
    return ledger.moved_deletions(0, before=before, most=most, limit=10)


def test_that_a_deletion_of_what_was_never_there_was_moved_is_forgotten_but_for_the_last(ledger: Ledger) -> None:
    for offset, name in enumerate("abc"):
        move(ledger, name, offset)
        handle(ledger, name, offset)
    ledger.forget("a", 0)  # its own deletion may be forgotten first
    assert moves_to_forget(ledger, before=NOW) == []
    assert moves_to_forget(ledger) == [("a", 0), ("b", 1)]
    assert moves_to_forget(ledger, before=NOW, most=2) == [("a", 0)]
    ledger.forget_moved("a", 0, 0)
    assert ledger.moved("a") == {}
    assert moves_to_forget(ledger) == [("b", 1)]
    move(ledger, "b", 7)
    ledger.forget_moved("b", 0, 1)
    assert ledger.moved("b")[0].offset == 7


def test_that_a_document_was_moved_or_one_that_was_there_deleted_is_not_forgotten(ledger: Ledger) -> None:
    move(ledger, "said", 0, deletion=False)
    handle(ledger, "said", 0, absent=False)
    move(ledger, "was there", 1)
    handle(ledger, "was there", 1, absent=False)
    move(ledger, "said again", 2)
    move(ledger, "said again", 3, deletion=False)
    handle(ledger, "said again", 3)
    move(ledger, "not handled yet", 4)
    move(ledger, "last", 5)
    for _ in range(2):
        assert moves_to_forget(ledger, before=NOW + 5 * HOUR) == []
    assert set(ledger.moved("was there")) == {0}
