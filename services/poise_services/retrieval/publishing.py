"""Publishes a document of `poise.documents` as records of `poise.passages`.

Steps for a version (its number is the offset of the document or deletion; a deletion is a version without passages):

0. The version is announced on `poise.versions`, before it waits for its partition's lock: caches of answers that used
   the previous version learn of it before a search can find it.
1. A version that is not higher than the visible one is skipped: it, or a newer one, was published before. (In that case
   step 0 announces the newer one again, because the older announcement may come after it in the log.)
2. The passages are written, with key `<document>#<part>`, to the document's partition; for a deletion, a tombstone for
   passage 0.
3. The worker waits until its own index has applied these records, so that it knows all records before them.
4. Passages that only the previous version had get tombstones, so that compaction removes them.
5. The manifest is written, with key `<document>#manifest`. It makes the version visible to readers as a whole (see
   `version_assembler`).
6. The worker waits until its index has applied the manifest: a handled document can be found, on this worker at least.

Failures, and what holds after them:

- The worker dies before 5: readers still see the previous version. The document is redelivered, and 2 to 6 are repeated
  with the same version number. A reader that starts with a compacted log in between lacks the document until then.
- It dies between 5 and the commit of the offset: the redelivered document is skipped at 1.
- An old version is delivered late, by a retry or a redelivery: it is skipped at 1.
- Two versions in quick succession are handled one after the other, by key, in one worker. If a rebalance lets one
  worker finish the older while another handles the newer, readers ignore the older, but compaction would keep its
  records instead of the newer ones. The worker of the older version detects this at 3 or 6, and writes the newer
  version again from its index.
- The manifest of a deletion, some 150 bytes, is never removed, and old versions are compared with it. So no reader
  depends on a tombstone alone, and a reader that was offline for a long time can resume.

A deletion of a document that does not exist is not announced, because no answer depends on it, and its manifest says
`absent`. The manifest is retained for `ABSENT_RETENTION` after it was handled, so that an older version that is still
being handled or retried finds it; beyond `MAX_ABSENT` per partition, the oldest is dropped. Handling the next document
or deletion of the partition removes a few of them with tombstones. If the document was published in the meantime, it is
written again. The notes that such deletions were copied expire in the same way (`repartitioning.tombstone_copy_notes`).

Documents of one partition are published one after another, so that manifests are in the documents' order, and an index
whose epoch is at offset 17 has all documents before it. The README lists the exceptions.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from pydantic import TypeAdapter, ValidationError

from poise.contracts import Deletion, Document, DocumentVersion, FieldError
from poise.contracts.document import DocumentId
from poise.contracts.topics import DOCUMENTS, HOUR, VERSIONS
from poise.errors import InvalidMessageError, RetryableError
from poise.executors.limited import LimitedExecutor
from poise.kafka.record import Position
from poise.telemetry import count, semconv, span
from poise.worker.context import Context
from poise_services.retrieval.embedding import Embedder
from poise_services.retrieval.index import StoredPassage
from poise_services.retrieval.index_metadata import VersionState
from poise_services.retrieval.live_index import LiveIndex
from poise_services.retrieval.passages import (
    PassageContent,
    content_digest,
    encode_vector,
    split_document,
)
from poise_services.retrieval.repartitioning import (
    copy_to_key_partition,
    is_compaction_tombstone,
    is_copied_record,
    is_older,
    republish_newer,
    tombstone_copy_notes,
    tombstone_sources,
    written_at,
)
from poise_services.retrieval.version_writer import PublishableVersion, VersionWriter

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_ID: Final = TypeAdapter[str](DocumentId)
_APPLY_TIMEOUT: Final = 30.0
"""Seconds within which this worker's index must have applied a record that the worker wrote."""
ABSENT_RETENTION: Final = HOUR
"""Seconds to retain the manifest of a deletion of an unknown document; longer than any retry."""
MAX_ABSENT: Final = 20_000
"""Such manifests retained per partition, some 150 bytes each."""
_MAX_TOMBSTONES: Final = 2
"""Expired manifests that are removed per handled document."""


class PassagePublisher:
    """Handles `Document` and `Deletion`."""

    def __init__(self, embedder: Embedder, live_index: LiveIndex, executor: LimitedExecutor | None = None) -> None:
        self._embedder = embedder
        self._live_index = live_index
        self._executor = executor or LimitedExecutor()
        self._partition_locks: Mapping[int, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def publish(self, document: Document, context: Context) -> None:
        """Split, embed and publish a document.

        Raises:
            InvalidMessageError: Its key is not a document id, or it is a copy in the wrong partition.
            WorkLimitError: Splitting it took too much time or memory.
            RetryableError: This worker's index does not keep up with the log.
        """
        record = context.record
        document_id = _document_id(context)
        if await self._copy_if_misplaced(document_id, context):
            return
        with span(semconv.SPLIT) as current:
            contents = await self._split(document)
            current.set_attribute(semconv.PASSAGES, len(contents))
        version = PublishableVersion(document_id, record.offset, written_at(record), document.source, contents)
        await self._publish_in_order(version, context)
        count(semconv.DOCUMENTS_EMBEDDED)

    async def _split(self, document: Document) -> list[PassageContent]:
        size = len(document.text)
        if self._executor.is_large(size):
            return await self._executor.run(split_document, document, size=size)
        return await asyncio.to_thread(split_document, document)

    async def delete(self, _: Deletion, context: Context) -> None:
        """Publish a document's deletion.

        Raises:
            InvalidMessageError: Its key is not a document id, or it is a copy in the wrong partition.
            RetryableError: This worker's index does not keep up with the log.
        """
        record = context.record
        document_id = _document_id(context)
        if await self._copy_if_misplaced(document_id, context):
            return
        await self._publish_in_order(PublishableVersion(document_id, record.offset, written_at(record)), context)
        await tombstone_sources(document_id, context, self._live_index)

    async def _copy_if_misplaced(self, document: str, context: Context) -> bool:
        """Copy a record to its key's partition if it is in another and was not copied yet; return whether it is."""
        record = context.record
        key_partition = await self._live_index.logs.partition_of(DOCUMENTS.name, record.key or b"")
        if record.partition == key_partition:
            return False
        if is_compaction_tombstone(record):
            return True
        if is_copied_record(record):
            raise _invalid_key(
                f"{document!r} is a copy in partition {record.partition}, but its key's partition is {key_partition}: "
                "its producer must partition by murmur2 (librdkafka: partitioner=murmur2_random)"
            )
        async with self._partition_locks[record.partition]:  # so that the epoch reaches it after the records before it
            note_position = await copy_to_key_partition(document, key_partition, context, self._live_index)
            if note_position is not None:
                await self._wait_applied(note_position)
                count(semconv.DOCUMENTS_MOVED)
            await self._tombstone_expired_deletions(context)
        return True

    async def _publish_in_order(self, version: PublishableVersion, context: Context) -> None:
        record = context.record
        announced = not is_copied_record(record) and await self._announce_unless_absent(version, context)
        async with self._partition_locks[record.partition]:
            if not await self._republish_if_superseded(version, context):
                if is_copied_record(record):
                    announced = await self._announce_unless_absent(version, context)
                await self._publish(version, context, announced=announced)
            await self._tombstone_expired_deletions(context)

    async def _announce_unless_absent(self, version: PublishableVersion, context: Context) -> bool:
        """Announce a version unless it deletes a document that does not exist; return whether it was announced."""
        if context.record.value is None and not _existed(await self._live_index.visible_version(version.document)):
            return False
        await self._announce(version, context)
        return True

    async def _republish_if_superseded(self, version: PublishableVersion, context: Context) -> bool:
        """Return whether a version is of a copy that was written before the visible one, though its offset is higher.

        If so, publish the visible one again after it.
        """
        if not is_copied_record(context.record):
            return False
        visible = await self._live_index.visible_version(version.document)
        if visible.version >= version.version_number:
            return False
        if not is_older(version.document_written_at, visible.document_written_at):
            return False
        await republish_newer(self._live_index, context.record, visible.version, visible.document_written_at)
        return True

    async def _announce(self, version: PublishableVersion, context: Context) -> None:
        """Announce a version on `poise.versions`; if a newer one is visible, announce that one."""
        visible = await self._live_index.visible_version(version.document)
        if visible.version > version.version_number:
            version = await self._visible_version(version.document)
        digest = content_digest(version.source, version.contents) if version.contents else None
        await context.publish(
            VERSIONS,
            DocumentVersion(documents=self._live_index.epoch.topic_id, digest=digest),
            key=version.document,
            partition=context.record.partition,
            doc_version=version.version_number,
        )

    async def _publish(self, version: PublishableVersion, context: Context, *, announced: bool) -> None:
        if (await self._live_index.visible_version(version.document)).version >= version.version_number:
            return
        writer = VersionWriter(version, context)
        vectors = await self._embed(version.contents, await self._live_index.stored_passages(version.document))
        await self._wait_applied(await writer.write_passages(vectors, self._embedder.model))
        if await self._republish_if_superseded(version, context):  # a copy, and a newer version was published meanwhile
            await self._republish_visible(version, context)
            return
        visible = await self._live_index.visible_version(version.document)
        absent = not announced and not _existed(visible)
        if not announced and not absent:
            await self._announce(version, context)
        if visible.version < version.version_number:
            await writer.write_tombstones(visible.passage_count)
            await self._wait_applied(await writer.write_manifest(absent=absent))
            visible = await self._live_index.visible_version(version.document)
        if visible.version > version.version_number:
            await self._republish_visible(version, context)

    async def _tombstone_expired_deletions(self, context: Context) -> None:
        """Write tombstones for a few expired deletions of unknown documents."""
        partition = context.record.partition
        before = time.time() - ABSENT_RETENTION
        limits = {"max_retained": MAX_ABSENT, "limit": _MAX_TOMBSTONES}
        for document, version_number in await self._live_index.expired_deletions(partition, before=before, **limits):
            version = PublishableVersion(document, version_number, 0.0)
            await self._wait_applied(await VersionWriter(version, context).tombstone_manifest())
            if (await self._live_index.visible_version(version.document)).version > version.version_number:
                await self._republish_visible(version, context)
        async for position in tombstone_copy_notes(context, self._live_index, before=before, **limits):
            await self._wait_applied(position)

    async def _republish_visible(self, superseded: PublishableVersion, context: Context) -> None:
        """Write the visible version of a document again, because an older one overwrote it."""
        await self._announce(superseded, context)
        newer = await self._visible_version(superseded.document)
        stored = await self._live_index.stored_passages(superseded.document)
        writer = VersionWriter(newer, context)
        await writer.write_passages(await self._embed(newer.contents, stored), self._embedder.model)
        await writer.write_tombstones(len(superseded.contents))
        absent = (await self._live_index.visible_version(superseded.document)).absent
        await self._wait_applied(await writer.write_manifest(absent=absent))

    async def _visible_version(self, document: str) -> PublishableVersion:
        """Return the visible version of a document, as it was published."""
        visible = await self._live_index.visible_version(document)
        stored = await self._live_index.stored_passages(document)
        return PublishableVersion(
            document=document,
            version_number=visible.version,
            document_written_at=visible.document_written_at,
            source=stored[0].source if stored else "",
            contents=[passage.content for passage in stored],
        )

    async def _embed(self, contents: Sequence[PassageContent], stored: Sequence[StoredPassage]) -> list[str]:
        """Return the encoded vectors of contents, in order; reuse the stored vectors of unchanged ones."""
        vectors: dict[PassageContent, NDArray[np.float32]] = {
            p.content: p.vector for p in stored if p.vector is not None
        }
        new = list(dict.fromkeys(content for content in contents if content not in vectors))
        if new:
            with span(semconv.EMBED_PASSAGES, attributes={semconv.PASSAGES: len(new)}):
                embedded = await self._embedder.embed_texts([content.embedding_text for content in new])
            vectors |= dict(zip(new, embedded, strict=True))
        return [encode_vector(vectors[content]) for content in contents]

    async def _wait_applied(self, position: Position) -> None:
        try:
            async with asyncio.timeout(_APPLY_TIMEOUT):
                await self._live_index.wait_applied(position)
        except TimeoutError as error:
            raise RetryableError(
                f"this worker's index did not apply {position} within {_APPLY_TIMEOUT:.0f} s"
            ) from error


def _existed(visible: VersionState) -> bool:
    """Return whether the document exists or existed, so that an answer may depend on it."""
    return visible.version >= 0 and not visible.absent


def _document_id(context: Context) -> str:
    """Return the document's id, the key of its record.

    Raises:
        InvalidMessageError: The key is missing, not UTF-8, too long, or has control characters.
    """
    record = context.record
    try:
        document_id = (record.key or b"").decode()
    except UnicodeDecodeError as error:
        raise _invalid_key("is not UTF-8: it must be the document's id") from error
    if not document_id:
        raise _invalid_key("is missing: it must be the document's id")
    try:
        _ID.validate_python(document_id)
    except ValidationError as error:
        raise _invalid_key(f"is not a document id: {error.errors()[0]['msg']}") from error
    return document_id


def _invalid_key(detail: str) -> InvalidMessageError:
    return InvalidMessageError(f"key: {detail}", [FieldError(field="key", detail=detail)])
