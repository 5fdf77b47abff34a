"""Assembly: versions of documents put together from the records of `poise.passages`. Pure.

A version may be seen when its manifest and all its parts have been read, in whatever order, and only if it is higher
than the one that is seen now. So nobody sees half a document, and nothing that comes late brings an old one back:

- a part or manifest of a version that is not higher is ignored, which makes duplicates and late writers harmless;
- a version that compaction has taken parts from never completes: a newer one overwrote them and is on its way;
- tombstones say nothing here (the manifest does); they are for the log, so that it forgets surplus parts. That of a
  manifest has the ledger forget the deletion of a document that was never there.

What is not complete is kept in memory. To have it again after a restart, reading resumes at the earliest record of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from poise.contracts import Manifest, Part


@dataclass(frozen=True, slots=True)
class Version:
    """A document as it was said once, whole."""

    document: str
    partition: int
    """Of the document and of its passages alike."""
    number: int
    """The document's offset in `poise.documents`."""
    parts: tuple[Part, ...]
    """In order; none = the document was deleted."""
    published: float
    """Unix seconds."""
    absent: bool = False
    """A deletion of what was not there."""


@dataclass(slots=True)
class _Incomplete:
    partition: int
    begun: int
    """Offset of its earliest record."""
    parts: dict[int, Part] = field(default_factory=dict)
    manifest: Manifest | None = None

    def whole(self) -> tuple[Part, ...] | None:
        if self.manifest is None or any(number not in self.parts for number in range(self.manifest.parts)):
            return None
        return tuple(self.parts[number] for number in range(self.manifest.parts))


class Assembly:
    """Puts versions together; fed with records in offset order of each partition."""

    def __init__(self) -> None:
        self._incomplete: dict[str, dict[int, _Incomplete]] = {}

    def add(self, message: Part | Manifest, *, partition: int, offset: int, number: int, seen: int) -> Version | None:
        """Take a record.

        Args:
            message: Its body.
            partition: Where it was read.
            offset: Where it was read.
            number: The version it belongs to, from its header `poise-doc-version`.
            seen: The version of its document that is seen now; -1 = none.

        Returns:
            The version that is complete now and is to be seen from here on; None if there is none.
        """
        if number <= seen:
            return None
        versions = self._incomplete.setdefault(message.document, {})
        version = versions.setdefault(number, _Incomplete(partition, offset))
        if isinstance(message, Part):
            version.parts[message.part] = message
        else:
            version.manifest = message
        parts = version.whole()
        if parts is None or version.manifest is None:
            return None
        self._forget(message.document, number)
        manifest = version.manifest
        return Version(message.document, partition, number, parts, manifest.published, bool(manifest.absent))

    def resume(self, nexts: Mapping[int, int]) -> dict[int, int]:
        """Where to read on after a restart, by partition.

        Args:
            nexts: The offset after the last record taken, by partition.
        """
        offsets = dict(nexts)
        for versions in self._incomplete.values():
            for version in versions.values():
                offsets[version.partition] = min(offsets.get(version.partition, version.begun), version.begun)
        return offsets

    def __len__(self) -> int:
        """How many versions are incomplete."""
        return sum(map(len, self._incomplete.values()))

    def _forget(self, document: str, up_to: int) -> None:
        kept = {number: version for number, version in self._incomplete[document].items() if number > up_to}
        if kept:
            self._incomplete[document] = kept
        else:
            del self._incomplete[document]
