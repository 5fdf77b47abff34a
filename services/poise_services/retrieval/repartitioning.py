"""Copies a document or deletion to its key's partition if its producer wrote it to another one.

Clients partition differently by default (librdkafka: CRC32; sarama: FNV; kafka-go: round robin). Versions of a document
are ordered by their offsets in one partition, the one that murmur2 gives its key. So a record in another partition is
copied there, and handled there.

    copied once    each copy is noted in `poise.passages` (`CopyNote`), by document and source partition. A redelivered
                   record, even after its group was reset, is not copied again
    in order       records of one partition are copied in order, by key, and a copy's time is never before that of the
                   copy before it. Across partitions, the record's time decides: a copy older than the visible version
                   is ignored, and the visible version is published again after it, because compaction keeps the last
                   record of a key
    no loop        a copy in the wrong partition becomes a dead letter, so workers that disagree on the number of
                   partitions, or a client that writes these headers, cause no second copy
    deletions      a deletion also writes a tombstone to each partition that the document was copied from, or its text
                   would remain there. Such a record only serves compaction
    expiry         the note of a deletion expires if the document never existed. If the deletion is redelivered, it is
                   copied again and deletes nothing
    epoch          the offset of a copied record counts as applied once its copy is: see `IndexMetadata.apply_copies`

Failure: a worker dies between the copy and its note. The record is redelivered and copied again with the same time and
content, which has no visible effect.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Final

from poise.contracts import CopyNote
from poise.contracts.headers import MOVED_FROM, MOVED_HEADERS, MOVED_TO, MOVED_WRITTEN, ORIGIN, TRACE_HEADERS
from poise.contracts.topics import DOCUMENTS, PASSAGES
from poise.errors import RetryableError
from poise.kafka.logs import Logs
from poise.kafka.record import Headers, Position, Record
from poise.worker.context import Context
from poise_services.retrieval.live_index import LiveIndex
from poise_services.retrieval.passages import copy_note_key

log = logging.getLogger(__name__)

READ_TIMEOUT: Final = 10.0
"""Maximum seconds to read one record of `poise.documents`."""


def is_copied_record(record: Record) -> bool:
    """Return whether a record is a copy from another partition."""
    return record.raw_header(MOVED_FROM) is not None


def is_compaction_tombstone(record: Record) -> bool:
    """Return whether a record outside of its key's partition is a tombstone that only serves compaction."""
    return record.value is None and record.raw_header(MOVED_TO) is not None


def written_at(record: Record) -> float:
    """Return when a document was written, unix seconds. For a copy: when its source was, but not after the copy."""
    source_written = record.int_header(MOVED_WRITTEN) if is_copied_record(record) else None
    return record.timestamp if source_written is None else min(source_written / 1_000, record.timestamp)


def is_older(document_written_at: float, visible: float) -> bool:
    """Return whether a copy was written before the visible version, compared in milliseconds as headers have them."""
    return round(document_written_at * 1_000) < round(visible * 1_000)


async def copy_to_key_partition(
    document: str, key_partition: int, context: Context, live_index: LiveIndex
) -> Position | None:
    """Copy a record to its key's partition, and note that in `poise.passages`.

    Returns:
        The position of the note; None if the record was copied before.
    """
    record = context.record
    previous = (await live_index.copied_records(document)).get(record.partition)
    if previous is not None and previous.offset >= record.offset:
        return None
    copy_written_at = max(record.timestamp, previous.document_written_at if previous else 0.0)
    copy = await live_index.producer.records.send(
        DOCUMENTS.name, record.value, key=record.key, headers=_headers(record, copy_written_at), partition=key_partition
    )
    deletion = True if record.value is None else None
    note = CopyNote(
        document=document, partition=key_partition, version=copy.offset, published=copy_written_at, deletion=deletion
    )
    return await context.publish(
        PASSAGES, note, key=copy_note_key(document), partition=record.partition, doc_version=record.offset
    )


async def republish_newer(live_index: LiveIndex, superseded: Record, version: int, document_written_at: float) -> None:
    """Publish a version again after a copy that is older, because compaction keeps the last record of a key."""
    newer = await _read_at(live_index.logs, superseded.partition, version)
    if newer is None or newer.key != superseded.key:
        log.warning("%s is older than version %d, which compaction has removed", superseded.position, version)
        return
    await live_index.producer.records.send(
        DOCUMENTS.name,
        newer.value,
        key=newer.key,
        headers=_headers(newer, document_written_at),
        partition=newer.partition,
    )


async def tombstone_sources(document: str, context: Context, live_index: LiveIndex) -> None:
    """Write tombstones for a deleted document to the partitions that it was copied from."""
    record = context.record
    headers = [(MOVED_TO, str(record.position).encode())]
    for partition in await live_index.copied_records(document):
        await live_index.producer.records.send(
            DOCUMENTS.name, None, key=record.key, headers=headers, partition=partition
        )


async def tombstone_copy_notes(
    context: Context, live_index: LiveIndex, *, before: float, max_retained: int, limit: int
) -> AsyncIterator[Position]:
    """Write tombstones for the notes of expired copied deletions of unknown documents.

    If another worker copies such a document in the meantime, its note is written again after the tombstone.

    Yields:
        The position of each record in `poise.passages`; the caller resumes this once the index has applied it.
    """
    partition = context.record.partition
    for document, offset in await live_index.expired_copied_deletions(
        partition, before=before, max_retained=max_retained, limit=limit
    ):
        key = copy_note_key(document)
        yield await context.publish(PASSAGES, None, key=key, partition=partition, doc_version=offset)
        newer = (await live_index.copied_records(document)).get(partition)
        if newer is not None:
            note = CopyNote(
                document=document,
                partition=newer.key_partition,
                version=newer.version,
                published=newer.document_written_at,
                deletion=newer.deletion or None,
            )
            yield await context.publish(PASSAGES, note, key=key, partition=partition, doc_version=newer.offset)


def _headers(record: Record, written_at: float) -> Headers:
    """Return the headers of a copy: the client's, and the position of its source."""
    dropped = {*TRACE_HEADERS, *MOVED_HEADERS}
    headers: list[tuple[str, bytes | None]] = [item for item in record.headers if item[0] not in dropped]
    if record.raw_header(ORIGIN) is None:
        headers.append((ORIGIN, str(record.position).encode()))
    return [
        *headers,
        (MOVED_FROM, str(record.position).encode()),
        (MOVED_WRITTEN, str(max(0, round(written_at * 1_000))).encode()),
    ]


async def _read_at(logs: Logs, partition: int, offset: int) -> Record | None:
    """Return the record at an offset; None if compaction has removed it."""
    try:
        async with (
            asyncio.timeout(READ_TIMEOUT),
            logs.open_stream(DOCUMENTS.name, start={partition: offset}, partitions=[partition]) as stream,
        ):
            async for records in stream:
                return records[0] if records[0].offset == offset else None
    except TimeoutError as error:
        raise RetryableError(f"{DOCUMENTS.name} could not be read within {READ_TIMEOUT:.0f} s") from error
    return None
