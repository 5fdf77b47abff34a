"""Assembles versions of documents from the records of `poise.passages`. No clock, no I/O.

A version becomes visible when its manifest and all its passages were read, in any order, and only if it is higher than
the visible one. So a search never finds half a document, and a late record never restores an old version:

- A passage or manifest of a version that is not higher is ignored, so duplicates and late writers are harmless.
- A version that lost passages to compaction never completes: a newer one overwrote them and follows in the log.
- Tombstones carry no information here (the manifest does). They let compaction remove surplus passages. A manifest's
  tombstone removes the deletion of an unknown document from the metadata.

Incomplete versions are kept in memory only. After a restart, reading resumes at their earliest record.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from poise.contracts import Manifest, PassageRecord


@dataclass(frozen=True, slots=True)
class AssembledVersion:
    """A complete version of a document."""

    document: str
    partition: int
    """The partition of the document and of its passages."""
    version_number: int
    """The document's offset in `poise.documents`."""
    passages: tuple[PassageRecord, ...]
    """In order; empty = the document was deleted."""
    document_written_at: float
    """Unix seconds."""
    absent: bool = False
    """A deletion of an unknown document."""


@dataclass(slots=True)
class _Incomplete:
    partition: int
    first_offset: int
    """Offset of its earliest record."""
    passages: dict[int, PassageRecord] = field(default_factory=dict)
    manifest: Manifest | None = None

    def complete_passages(self) -> tuple[PassageRecord, ...] | None:
        if self.manifest is None or any(number not in self.passages for number in range(self.manifest.parts)):
            return None
        return tuple(self.passages[number] for number in range(self.manifest.parts))


class VersionAssembler:
    """Assembles versions from records, added in offset order of each partition."""

    def __init__(self) -> None:
        self._incomplete: dict[str, dict[int, _Incomplete]] = {}

    def add(
        self, message: PassageRecord | Manifest, *, partition: int, offset: int, version_number: int, current: int
    ) -> AssembledVersion | None:
        """Add a record.

        Args:
            message: Its body.
            partition: Its partition.
            offset: Its offset.
            version_number: The version it belongs to, from its header `poise-doc-version`.
            current: The version of its document that is visible now; -1 = none.

        Returns:
            The version that this record completes and that becomes visible; None if there is none.
        """
        if version_number <= current:
            return None
        versions = self._incomplete.setdefault(message.document, {})
        version = versions.setdefault(version_number, _Incomplete(partition, offset))
        if isinstance(message, PassageRecord):
            version.passages[message.part] = message
        else:
            version.manifest = message
        passages = version.complete_passages()
        if passages is None or version.manifest is None:
            return None
        self._drop(message.document, version_number)
        manifest = version.manifest
        return AssembledVersion(
            message.document, partition, version_number, passages, manifest.published, bool(manifest.absent)
        )

    def resume_offsets(self, next_offsets: Mapping[int, int]) -> dict[int, int]:
        """Return where reading resumes after a restart, by partition.

        Args:
            next_offsets: The offset after the last record added, by partition.
        """
        offsets = dict(next_offsets)
        for versions in self._incomplete.values():
            for version in versions.values():
                offsets[version.partition] = min(
                    offsets.get(version.partition, version.first_offset), version.first_offset
                )
        return offsets

    def __len__(self) -> int:
        """Return the number of incomplete versions."""
        return sum(map(len, self._incomplete.values()))

    def _drop(self, document: str, up_to: int) -> None:
        newer = {number: version for number, version in self._incomplete[document].items() if number > up_to}
        if newer:
            self._incomplete[document] = newer
        else:
            del self._incomplete[document]
