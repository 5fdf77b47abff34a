"""The documents that `poise.documents` already has, so that unchanged ones are not published again."""

import hashlib
from collections.abc import Collection
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from pydantic import ValidationError

from poise.contracts.document import Document
from poise.contracts.topics import DOCUMENTS, dead_letter_topic_name
from poise.dead_letters.model import DeadLetterIndex
from poise.kafka.record import Position, Record
from poise.worker.connection import MeshConnection

READ_TIMEOUT: Final = 300.0
"""Seconds for reading the whole log."""

_TIER: Final = DOCUMENTS.tier or ""


@dataclass(frozen=True, slots=True)
class PublishedDocument:
    """The newest version of a document in the log."""

    position: Position
    digest: bytes


def document_digest(document: Document) -> bytes:
    """Return the SHA-256 of a document's encoded body; equal documents have equal digests."""
    return hashlib.sha256(document.encode()).digest()


async def find_published(mesh: MeshConnection, ids: Collection[str]) -> dict[str, PublishedDocument]:
    """Return those of these documents that the log has, by id.

    A version that became a dead letter does not count, unless it was redriven.

    Raises:
        UnavailableError: The log cannot be read.
    """
    latest: dict[str, PublishedDocument | None] = {}
    async with mesh.logs.open_stream(DOCUMENTS.name) as log:
        async for batch in log.read_to_end(within=READ_TIMEOUT):
            for record in batch:
                id_ = (record.key or b"").decode(errors="replace")
                if id_ in ids:
                    digest = _digest_of(record)
                    latest[id_] = None if digest is None else PublishedDocument(record.position, digest)
    index = DeadLetterIndex(_TIER)
    async with aclosing(mesh.logs.lookups.scan(dead_letter_topic_name(_TIER))) as records:
        async for record in records:
            index.add(record)
    dead = {entry.failed_position for entry in index.entries() if entry.redriven is None}
    return {id_: found for id_, found in latest.items() if found is not None and str(found.position) not in dead}


def _digest_of(record: Record) -> bytes | None:
    """Return the digest of a record's document; None for a deletion or an invalid document."""
    if record.value is None:
        return None
    try:
        return document_digest(Document.parse(record.value))
    except ValidationError:
        return None
