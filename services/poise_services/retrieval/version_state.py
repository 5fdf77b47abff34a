"""The ledger: which version of each document is seen, how far the log was read, and whether that fits this mesh.

SQLite beside the index, in the same folder. The index is flushed first and the ledger committed after it, so what it
says was applied, was; what was applied and it does not say is applied again, which changes nothing.
"""

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from poise.contracts import Epoch, Moved
from poise_services.retrieval.version_assembler import Version

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS documents (
    id TEXT PRIMARY KEY, version INTEGER NOT NULL, parts INTEGER NOT NULL, published REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS absent (
    id TEXT PRIMARY KEY, partition INTEGER NOT NULL, version INTEGER NOT NULL, noted REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS absent_in_order ON absent (partition, version);
CREATE TABLE IF NOT EXISTS positions (partition INTEGER PRIMARY KEY, next INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS moved (
    id TEXT, partition INTEGER, offset INTEGER NOT NULL, published REAL NOT NULL,
    home INTEGER NOT NULL, version INTEGER NOT NULL, applied INTEGER NOT NULL, deletion INTEGER NOT NULL,
    noted REAL NOT NULL, PRIMARY KEY (id, partition)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS waiting ON moved (home, version) WHERE NOT applied;
CREATE INDEX IF NOT EXISTS moved_in_order ON moved (partition, offset);
CREATE INDEX IF NOT EXISTS moved_deletions ON moved (partition, offset) WHERE deletion;
CREATE TABLE IF NOT EXISTS applied (partition INTEGER PRIMARY KEY, offset INTEGER NOT NULL, at REAL NOT NULL);
"""


@dataclass(frozen=True, slots=True)
class VersionState:
    """The version of a document that is seen."""

    version: int
    """-1: none yet."""
    parts: int
    """0: it was deleted."""
    published: float
    """Unix seconds."""
    absent: bool = False
    """It was deleted, and there was none."""


@dataclass(frozen=True, slots=True)
class MovedRecord:
    """The last record of a document that was copied from a partition which is not its own."""

    offset: int
    """Where it stands there."""
    published: float
    """Unix seconds."""
    home: int
    """The partition of its copy."""
    version: int
    """The offset of its copy."""
    deletion: bool


class Ledger:
    """Used by one thread at a time.

    Raises:
        sqlite3.Error: The file is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.executescript(_TABLES)
            self._db.execute("BEGIN")
        except sqlite3.Error:
            self._db.close()
            raise

    def close(self) -> None:
        """Close without writing what was not committed."""
        self._db.close()

    def commit(self) -> None:
        """Write everything noted since the last time, all or nothing."""
        self._db.execute("COMMIT")
        self._db.execute("BEGIN")

    def facts(self) -> dict[str, str]:
        """What was noted about the folder itself."""
        return dict(self._db.execute("SELECT name, value FROM facts"))

    def note_facts(self, facts: Mapping[str, str]) -> None:
        """Note it in place of what was noted before."""
        self._db.execute("DELETE FROM facts")
        self._db.executemany("INSERT INTO facts VALUES (?, ?)", facts.items())

    def seen(self, document: str) -> VersionState:
        """The version of a document that is seen."""
        row = self._db.execute(
            "SELECT version, parts, published, id IN (SELECT id FROM absent) FROM documents WHERE id = ?", (document,)
        ).fetchone()
        return VersionState(row[0], row[1], row[2], bool(row[3])) if row else VersionState(-1, 0, 0.0)

    def note(self, version: Version, now: float) -> None:
        """Note that a version is seen from here on, and that its offset of `poise.documents` is applied.

        Args:
            version: The version.
            now: Unix seconds. How long a deletion of what was never there is remembered counts from here: it may have
                waited for longer than that to be handled, and what it deletes for as long as it did.
        """
        self._db.execute(
            "INSERT OR REPLACE INTO documents VALUES (?, ?, ?, ?)",
            (version.document, version.number, len(version.parts), version.published),
        )
        self._db.execute("DELETE FROM absent WHERE id = ?", (version.document,))
        if version.absent:
            row = (version.document, version.partition, version.number, now)
            self._db.execute("INSERT INTO absent VALUES (?, ?, ?, ?)", row)
        self._apply(version.partition, version.number, version.published)

    def _apply(self, partition: int, offset: int, at: float) -> None:
        self._db.execute(
            "INSERT INTO applied VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET offset = excluded.offset, at = excluded.at "
            "WHERE excluded.offset > offset",
            (partition, offset, at),
        )

    def forget(self, document: str, number: int) -> None:
        """Forget the deletion of a document that was never there, if that is the version that is seen."""
        self._db.execute(
            "DELETE FROM documents WHERE id = ? AND version = ? AND id IN (SELECT id FROM absent)", (document, number)
        )
        self._db.execute("DELETE FROM absent WHERE id = ? AND version = ?", (document, number))

    def absent(self, partition: int, *, before: float, most: int, limit: int) -> list[tuple[str, int]]:
        """Documents that were deleted and never there, and are to be forgotten; id and version, the oldest first.

        The last one of a partition is kept, for it says how far the index has come.

        Args:
            partition: Theirs.
            before: Unix seconds; what was noted earlier is to be forgotten.
            most: How many of the rest are kept; the oldest of more are to be forgotten too.
            limit: How many are named at most.
        """
        count: int = self._db.execute("SELECT count(*) FROM absent WHERE partition = ?", (partition,)).fetchone()[0]
        rows = self._db.execute(
            "SELECT id, version, noted FROM absent WHERE partition = ? "
            "AND version < (SELECT max(version) FROM absent WHERE partition = ?) ORDER BY version LIMIT ?",
            (partition, partition, limit),
        ).fetchall()
        surplus = count - most
        return [(name, version) for place, (name, version, at) in enumerate(rows) if at < before or place < surplus]

    def moved(self, document: str) -> dict[int, MovedRecord]:
        """What was copied of a document, by the partition that it was copied from."""
        said = "SELECT partition, offset, published, home, version, deletion FROM moved WHERE id = ?"
        rows = self._db.execute(said, (document,))
        return {row[0]: MovedRecord(row[1], row[2], row[3], row[4], bool(row[5])) for row in rows}

    def note_moved(self, moved: Moved, partition: int, offset: int, now: float) -> None:
        """Note that a record was copied; its offset is applied once its copy is, see `release`."""
        row = (moved.document, partition, offset, moved.published, moved.partition, moved.version)
        self._db.execute(
            "INSERT INTO moved VALUES (?, ?, ?, ?, ?, ?, 0, ?, ?) ON CONFLICT DO UPDATE SET offset = excluded.offset, "
            "published = excluded.published, home = excluded.home, version = excluded.version, applied = 0, "
            "deletion = excluded.deletion, noted = excluded.noted WHERE excluded.offset >= offset",
            (*row, bool(moved.deletion), now),
        )

    def forget_moved(self, document: str, partition: int, offset: int) -> None:
        """Forget that a record was copied, if that is the last one which was."""
        self._db.execute(
            "DELETE FROM moved WHERE id = ? AND partition = ? AND offset <= ?", (document, partition, offset)
        )

    def moved_deletions(self, partition: int, *, before: float, most: int, limit: int) -> list[tuple[str, int]]:
        """Deletions that were copied from a partition, of documents that were never there, and are to be forgotten.

        Args and order are those of `absent`, and here too the last record that was copied is kept. Deletions of what
        was there are remembered for good, as the documents themselves are: they are not looked at a second time.

        Returns:
            Id and offset.
        """
        of = "FROM moved WHERE partition = ? AND deletion"
        count: int = self._db.execute(f"SELECT count(*) {of}", (partition,)).fetchone()[0]
        last = "SELECT max(offset) FROM moved WHERE partition = ?"
        rows = self._db.execute(
            "SELECT id, offset, noted, id IN (SELECT id FROM documents) AND id NOT IN (SELECT id FROM absent) "  # noqa: S608 - constants
            f"{of} AND applied AND offset < ({last}) ORDER BY offset LIMIT ?",
            (partition, partition, limit),
        ).fetchall()
        surplus, found = count - most, []
        for place, (document, offset, noted, was_there) in enumerate(rows):
            if was_there:
                self._db.execute("UPDATE moved SET deletion = 0 WHERE id = ? AND partition = ?", (document, partition))
            elif noted < before or place < surplus:
                found.append((document, offset))
        return found

    def release(self, home: int) -> dict[int, tuple[int, float]]:
        """Note the offsets as applied whose copies in a partition are; by partition, the highest and its time."""
        reached = self._db.execute("SELECT offset FROM applied WHERE partition = ?", (home,)).fetchone()
        waiting = "home = ? AND version <= ? AND NOT applied"
        found = (home, reached[0] if reached else -1)
        rows = self._db.execute(f"SELECT partition, offset, published FROM moved WHERE {waiting}", found).fetchall()  # noqa: S608 - a constant
        for partition, offset, published in rows:
            self._apply(partition, offset, published)
        if rows:
            self._db.execute(f"UPDATE moved SET applied = 1 WHERE {waiting}", found)  # noqa: S608 - a constant
        return {partition: (offset, published) for partition, offset, published in sorted(rows)}

    def epoch(self, topic_id: str) -> Epoch:
        """The highest applied offset of each partition of `poise.documents`, with its time."""
        rows = self._db.execute("SELECT partition, offset, at FROM applied")
        return Epoch(topic_id, {partition: (offset, at) for partition, offset, at in rows})

    def positions(self) -> dict[int, int]:
        """The next offset of `poise.passages` to read, by partition."""
        return dict(self._db.execute("SELECT partition, next FROM positions"))

    def note_positions(self, positions: Mapping[int, int]) -> None:
        """Note where to read on after a restart."""
        self._db.executemany("INSERT OR REPLACE INTO positions VALUES (?, ?)", positions.items())
