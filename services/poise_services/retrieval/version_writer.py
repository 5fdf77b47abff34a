"""Writes the records of one version of a document to `poise.passages`: passages, tombstones and the manifest."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from poise.contracts import Manifest, PassageRecord
from poise.contracts.topics import PASSAGES
from poise.kafka.record import Position
from poise.worker.context import Context
from poise_services.retrieval.passages import PassageContent, manifest_key, passage_record_key

_MAX_IN_FLIGHT: Final = 100
"""Records sent to the broker concurrently."""


@dataclass(frozen=True, slots=True)
class PublishableVersion:
    """A version to publish."""

    document: str
    version_number: int
    """The offset of its document or deletion in `poise.documents`."""
    document_written_at: float
    """Unix seconds."""
    source: str = ""
    contents: Sequence[PassageContent] = ()
    """Its passages, in order; empty for a deletion."""


class VersionWriter:
    """Writes one version.

    Args:
        version: The version.
        context: The context of its record in `poise.documents`. Its partition is also the version's in
            `poise.passages`.
    """

    def __init__(self, version: PublishableVersion, context: Context) -> None:
        self._version = version
        self._context = context

    async def write_passages(self, vectors: Sequence[str], model: str) -> Position:
        """Write the passages, or a tombstone for passage 0 if there are none; return the position of the last one.

        Args:
            vectors: A vector for each passage, encoded.
            model: The id of the embedding model.
        """
        version = self._version
        if not version.contents:
            return await self._write(passage_record_key(version.document, 0), None)
        records = [
            PassageRecord(
                document=version.document,
                part=number,
                source=version.source,
                heading=content.heading,
                text=content.text,
                vector=vector,
                model=model,
                published=version.document_written_at,
            )
            for number, (content, vector) in enumerate(zip(version.contents, vectors, strict=True))
        ]
        return await self._write_all({passage_record_key(record.document, record.part): record for record in records})

    async def write_tombstones(self, previous_count: int) -> None:
        """Write tombstones for the passages that the new version no longer has.

        Args:
            previous_count: The number of passages of the previous version.
        """
        surplus = range(max(1, len(self._version.contents)), previous_count)
        if surplus:
            await self._write_all({passage_record_key(self._version.document, number): None for number in surplus})

    async def write_manifest(self, *, absent: bool = False) -> Position:
        """Write the manifest, which makes the version visible; return its position."""
        version = self._version
        manifest = Manifest(
            document=version.document,
            parts=len(version.contents),
            published=version.document_written_at,
            absent=absent or None,
        )
        return await self._write(manifest_key(version.document), manifest)

    async def tombstone_manifest(self) -> Position:
        """Write a tombstone for the manifest; return its position."""
        return await self._write(manifest_key(self._version.document), None)

    async def _write_all(self, messages: Mapping[str, PassageRecord | None]) -> Position:
        positions: list[Position] = []
        keys = list(messages)
        for first in range(0, len(keys), _MAX_IN_FLIGHT):
            batch = keys[first : first + _MAX_IN_FLIGHT]
            positions += await asyncio.gather(*(self._write(key, messages[key]) for key in batch))
        return max(positions, key=lambda position: position.offset)

    async def _write(self, key: str, message: PassageRecord | Manifest | None) -> Position:
        return await self._context.publish(
            PASSAGES,
            message,
            key=key,
            partition=self._context.record.partition,
            doc_version=self._version.version_number,
        )
