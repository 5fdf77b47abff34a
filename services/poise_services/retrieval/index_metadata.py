"""Metadata of an index: the visible version of each document, the offsets applied, and what the index was built from.

SQLite in the index's folder. The index is flushed before the metadata is committed, so the index has everything that
the metadata marks as applied. Records applied after the last commit are applied again, which is idempotent.
"""

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from poise.contracts import CopyNote, Epoch
from poise_services.retrieval.version_assembler import AssembledVersion

# Stored names that differ from those in the code: `facts` are the properties, `moved` the copied records, `home` is the
# partition of the key, `noted` the time of the row, `published` the time of the document, and `positions` the next
# offsets to read.
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
    """The visible version of a document."""

    version: int
    """-1 = none yet."""
    passage_count: int
    """0 = deleted."""
    document_written_at: float
    """Unix seconds."""
    absent: bool = False
    """The document was deleted without ever having existed."""


@dataclass(frozen=True, slots=True)
class CopiedRecord:
    """The last record of a document that was copied from a partition other than its key's."""

    offset: int
    """Its offset there."""
    document_written_at: float
    """Unix seconds."""
    key_partition: int
    """The partition that murmur2 gives its key, where the copy is."""
    version: int
    """The offset of its copy."""
    deletion: bool


class IndexMetadata:
    """The database of an index, opened. Use it in one thread at a time.

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
        """Close without committing."""
        self._db.close()

    def commit(self) -> None:
        """Commit all changes since the last commit."""
        self._db.execute("COMMIT")
        self._db.execute("BEGIN")

    def properties(self) -> dict[str, str]:
        """Return the properties of the index."""
        return dict(self._db.execute("SELECT name, value FROM facts"))

    def set_properties(self, properties: Mapping[str, str]) -> None:
        """Replace the properties of the index."""
        self._db.execute("DELETE FROM facts")
        self._db.executemany("INSERT INTO facts VALUES (?, ?)", properties.items())

    def version_of(self, document: str) -> VersionState:
        """Return the visible version of a document."""
        row = self._db.execute(
            "SELECT version, parts, published, id IN (SELECT id FROM absent) FROM documents WHERE id = ?", (document,)
        ).fetchone()
        return VersionState(row[0], row[1], row[2], bool(row[3])) if row else VersionState(-1, 0, 0.0)

    def record_version(self, version: AssembledVersion, now: float) -> None:
        """Make a version the visible one, and mark its offset of `poise.documents` as applied.

        Args:
            version: The version.
            now: Unix seconds. If the version deletes an unknown document, its retention starts now, not when
                it was written: it, or a document that it deletes, may have waited longer than that to be handled.
        """
        self._db.execute(
            "INSERT OR REPLACE INTO documents VALUES (?, ?, ?, ?)",
            (version.document, version.version_number, len(version.passages), version.document_written_at),
        )
        self._db.execute("DELETE FROM absent WHERE id = ?", (version.document,))
        if version.absent:
            row = (version.document, version.partition, version.version_number, now)
            self._db.execute("INSERT INTO absent VALUES (?, ?, ?, ?)", row)
        self._apply(version.partition, version.version_number, version.document_written_at)

    def _apply(self, partition: int, offset: int, at: float) -> None:
        self._db.execute(
            "INSERT INTO applied VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET offset = excluded.offset, at = excluded.at "
            "WHERE excluded.offset > offset",
            (partition, offset, at),
        )

    def remove_deletion(self, document: str, version_number: int) -> None:
        """Remove the deletion of an unknown document, if that deletion is the visible version."""
        self._db.execute(
            "DELETE FROM documents WHERE id = ? AND version = ? AND id IN (SELECT id FROM absent)",
            (document, version_number),
        )
        self._db.execute("DELETE FROM absent WHERE id = ? AND version = ?", (document, version_number))

    def expired_deletions(
        self, partition: int, *, before: float, max_retained: int, limit: int
    ) -> list[tuple[str, int]]:
        """Return expired deletions of unknown documents: id and version, oldest first.

        The last one of a partition never expires, because it shows how far the index has come.

        Args:
            partition: The partition.
            before: Unix seconds; deletions recorded earlier have expired.
            max_retained: Number of deletions to retain; beyond it, the oldest have expired too.
            limit: Maximum number of deletions to return.
        """
        count: int = self._db.execute("SELECT count(*) FROM absent WHERE partition = ?", (partition,)).fetchone()[0]
        rows = self._db.execute(
            "SELECT id, version, noted FROM absent WHERE partition = ? "
            "AND version < (SELECT max(version) FROM absent WHERE partition = ?) ORDER BY version LIMIT ?",
            (partition, partition, limit),
        ).fetchall()
        surplus = count - max_retained
        return [
            (document, version)
            for index, (document, version, noted) in enumerate(rows)
            if noted < before or index < surplus
        ]

    def copied_records(self, document: str) -> dict[int, CopiedRecord]:
        """Return the copied records of a document, by the partition that they were copied from."""
        query = "SELECT partition, offset, published, home, version, deletion FROM moved WHERE id = ?"
        rows = self._db.execute(query, (document,))
        return {row[0]: CopiedRecord(row[1], row[2], row[3], row[4], bool(row[5])) for row in rows}

    def record_copy(self, note: CopyNote, partition: int, offset: int, now: float) -> None:
        """Record that a record was copied. Its offset counts as applied once its copy is, see `apply_copies`."""
        row = (note.document, partition, offset, note.published, note.partition, note.version)
        self._db.execute(
            "INSERT INTO moved VALUES (?, ?, ?, ?, ?, ?, 0, ?, ?) ON CONFLICT DO UPDATE SET offset = excluded.offset, "
            "published = excluded.published, home = excluded.home, version = excluded.version, applied = 0, "
            "deletion = excluded.deletion, noted = excluded.noted WHERE excluded.offset >= offset",
            (*row, bool(note.deletion), now),
        )

    def remove_copy(self, document: str, partition: int, offset: int) -> None:
        """Remove the note that a record was copied, unless a later one was copied since."""
        self._db.execute(
            "DELETE FROM moved WHERE id = ? AND partition = ? AND offset <= ?", (document, partition, offset)
        )

    def expired_copied_deletions(
        self, partition: int, *, before: float, max_retained: int, limit: int
    ) -> list[tuple[str, int]]:
        """Return expired deletions that were copied from a partition, of unknown documents.

        Arguments and order are those of `expired_deletions`; the last copied record never expires here either.
        Deletions of documents that existed never expire, and are checked only once.

        Returns:
            Their ids and offsets.
        """
        deletions = "FROM moved WHERE partition = ? AND deletion"
        count: int = self._db.execute(f"SELECT count(*) {deletions}", (partition,)).fetchone()[0]
        last = "SELECT max(offset) FROM moved WHERE partition = ?"
        rows = self._db.execute(
            "SELECT id, offset, noted, id IN (SELECT id FROM documents) AND id NOT IN (SELECT id FROM absent) "  # noqa: S608 - constants
            f"{deletions} AND applied AND offset < ({last}) ORDER BY offset LIMIT ?",
            (partition, partition, limit),
        ).fetchall()
        surplus = count - max_retained
        expired: list[tuple[str, int]] = []
        for index, (document, offset, noted, existed) in enumerate(rows):
            if existed:
                self._db.execute("UPDATE moved SET deletion = 0 WHERE id = ? AND partition = ?", (document, partition))
            elif noted < before or index < surplus:
                expired.append((document, offset))
        return expired

    def apply_copies(self, key_partition: int) -> dict[int, tuple[int, float]]:
        """Mark offsets as applied whose copies in a partition are applied.

        Returns:
            By partition, the highest of them and its time.
        """
        applied = self._db.execute("SELECT offset FROM applied WHERE partition = ?", (key_partition,)).fetchone()
        not_applied = "home = ? AND version <= ? AND NOT applied"
        parameters = (key_partition, applied[0] if applied else -1)
        query = f"SELECT partition, offset, published FROM moved WHERE {not_applied}"  # noqa: S608 - a constant
        rows = self._db.execute(query, parameters).fetchall()
        for partition, offset, published in rows:
            self._apply(partition, offset, published)
        if rows:
            self._db.execute(f"UPDATE moved SET applied = 1 WHERE {not_applied}", parameters)  # noqa: S608 - a constant
        return {partition: (offset, published) for partition, offset, published in sorted(rows)}

    def epoch(self, topic_id: str) -> Epoch:
        """Return the highest applied offset of each partition of `poise.documents`, with its time."""
        rows = self._db.execute("SELECT partition, offset, at FROM applied")
        return Epoch(topic_id, {partition: (offset, at) for partition, offset, at in rows})

    def next_offsets(self) -> dict[int, int]:
        """Return the next offset of `poise.passages` to read, by partition."""
        return dict(self._db.execute("SELECT partition, next FROM positions"))

    def set_next_offsets(self, offsets: Mapping[int, int]) -> None:
        """Set where reading resumes after a restart."""
        self._db.executemany("INSERT OR REPLACE INTO positions VALUES (?, ?)", offsets.items())
