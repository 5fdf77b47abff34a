"""Publishing: a document of `poise.documents` becomes records of `poise.passages`, once, by the group.

In order, for a version (the document's offset; a deletion is a version without parts):

0. What the version says is announced on `poise.versions`, before it waits for its turn: whoever keeps an answer from
   the version before knows of it before anybody can find it.
1. A version that is not higher than the seen one is left alone: it was published before, or a newer one was. (That one
   is announced again: the older one's announcement may stand after it in the log.)
2. The parts are written, key `<document>#<part>`, in the document's partition; for a deletion, a tombstone for part 0.
3. This worker waits until what it wrote comes round to its own index: now it knows everything that was written before.
4. Parts that the version before had and this one has not get tombstones, so that the log forgets them.
5. The manifest is written, key `<document>#manifest`. Readers see the version from here on, whole (see `assembly`).
6. This worker waits again for what it wrote: a document that is handled can be found, here at least.

What can go wrong, and what then holds:

- The worker dies before 5: readers still see the version before. The document is delivered again, and 2 to 6 are done
  again with the same version number. A reader that begins with a compacted log in between misses the document so long.
- It dies between 5 and the commit of the offset: delivered again, it ends at 1.
- An old version is delivered late (a retry, a redelivery): it ends at 1.
- Two versions in quick succession are handled one after the other, by key, in one worker. If a rebalance has one worker
  finish the older while another does the newer, readers ignore the older, but in the compacted log its records would
  replace the newer ones. The worker of the older finds out at 3 or 6 and writes the newer one again, from its index.
- The manifest of a deletion stays in the log for good, some 150 bytes: it is what an old version is compared with. So
  nothing that a reader needs is ever a tombstone alone, and one that was away for long may simply read on.

A deletion of a document that is not there is not announced, for no answer rests on it, and its manifest says `absent`.
It is kept for `ABSENT_FOR` from when it was handled, so that an older version which is still being handled, or tried
again, finds it; of more than `ABSENT_MOST` in a partition the oldest goes. The next document or deletion that is
handled in the partition has some forgotten: a null value takes the manifest's place. If the document was published
meanwhile, it is written again. The notes that such deletions were moved go likewise (`moving.forget_notes`).

Documents of one partition are published one after another, so that manifests come in the documents' order and an index
that has come to offset 17 has what is before 17, too. The README names the exceptions.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pydantic import TypeAdapter, ValidationError

from poise.contracts import Deletion, Document, DocumentVersion, FieldError, Manifest, Part
from poise.contracts.document import DocumentId
from poise.contracts.topics import DOCUMENTS, HOUR, PASSAGES, VERSIONS
from poise.errors import InvalidMessageError, RetryableError
from poise.executors.limited import LimitedExecutor
from poise.kafka.record import Position
from poise.telemetry import count, semconv, span
from poise.worker.context import Context
from poise_services.retrieval.corpus import Corpus
from poise_services.retrieval.embedding import Embedder
from poise_services.retrieval.index import Stored
from poise_services.retrieval.moving import (
    forget,
    forget_notes,
    is_copy,
    is_for_the_log,
    move,
    older,
    put_last,
    written,
)
from poise_services.retrieval.passages import Body, bodies, digest_of, encode_vector, manifest_key, part_key
from poise_services.retrieval.version_state import VersionState

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_ID: Final = TypeAdapter[str](DocumentId)
_ROUND_TRIP: Final = 30.0
"""Seconds within which a record must come round from the broker to this worker's index."""
_AT_ONCE: Final = 100
"""Records on their way to the broker at once."""


ABSENT_FOR: Final = HOUR
"""Seconds that the deletion of a document which was never there is remembered: longer than any is tried again."""
ABSENT_MOST: Final = 20_000
"""Such deletions that are remembered of each partition, some 150 bytes each."""
_FORGET_AT_ONCE: Final = 2


@dataclass(frozen=True, slots=True)
class _Version:
    """What is to be published."""

    document: str
    number: int
    published: float
    source: str = ""
    bodies: Sequence[Body] = ()


class Publisher:
    """Handles `Document` and `Deletion`."""

    def __init__(self, embedder: Embedder, corpus: Corpus, executor: LimitedExecutor | None = None) -> None:
        self._embedder = embedder
        self._corpus = corpus
        self._executor = executor or LimitedExecutor()
        self._turns: Mapping[int, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def publish(self, document: Document, context: Context) -> None:
        """Split, embed and publish a document.

        Raises:
            InvalidMessageError: Its key is no id, or it was moved already and is not where it belongs.
            WorkLimitError: Splitting it took too long, or too much memory.
            RetryableError: This worker's index does not follow the log.
        """
        record, name = context.record, _document_id(context)
        if await self._moved(name, context):
            return
        with span(semconv.SPLIT) as current:
            said = await self._split(document)
            current.set_attribute(semconv.PASSAGES, len(said))
        version = _Version(name, record.offset, written(record), document.source, said)
        await self._in_turn(version, context)
        count(semconv.DOCUMENTS_EMBEDDED)

    async def _split(self, document: Document) -> list[Body]:
        size = len(document.text)
        if self._executor.is_large(size):
            return await self._executor.run(bodies, document, size=size)
        return await asyncio.to_thread(bodies, document)

    async def delete(self, _: Deletion, context: Context) -> None:
        """Publish that a document is gone.

        Raises:
            InvalidMessageError: Its key is no id, or it was moved already and is not where it belongs.
            RetryableError: This worker's index does not follow the log.
        """
        record, name = context.record, _document_id(context)
        if await self._moved(name, context):
            return
        await self._in_turn(_Version(name, record.offset, written(record)), context)
        await forget(name, context, self._corpus)

    async def _moved(self, document: str, context: Context) -> bool:
        """Whether a record is in another partition than its key's, and is copied to that one now, if it was not yet."""
        record = context.record
        home = await self._corpus.logs.partition_of(DOCUMENTS.name, record.key or b"")
        if record.partition == home:
            return False
        if is_for_the_log(record):
            return True
        if is_copy(record):
            raise _refused(
                f"{document!r} is in partition {record.partition} and belongs in {home}, and was moved already: have "
                "its producer partition by murmur2 (librdkafka: partitioner=murmur2_random)"
            )
        async with self._turns[record.partition]:  # so that the epoch comes to it after what is before it
            noted = await move(document, home, context, self._corpus)
            if noted is not None:
                await self._round_trip(noted)
                count(semconv.DOCUMENTS_MOVED)
            await self._forget_absent(context)
        return True

    async def _in_turn(self, version: _Version, context: Context) -> None:
        record = context.record
        announced = not is_copy(record) and await self._announced(version, context)
        async with self._turns[record.partition]:
            if not await self._overtaken(version, context):
                if is_copy(record):
                    announced = await self._announced(version, context)
                await self._publish(version, context, announced=announced)
            await self._forget_absent(context)

    async def _announced(self, version: _Version, context: Context) -> bool:
        """Announce a version, unless it is the deletion of what is not there; returns whether it was."""
        if context.record.value is None and not _is_there(await self._corpus.seen(version.document)):
            return False
        await self._announce(version, context)
        return True

    async def _overtaken(self, version: _Version, context: Context) -> bool:
        """Whether a version is of a copy that is older than what is seen, which then is written behind it."""
        if not is_copy(context.record):
            return False
        seen = await self._corpus.seen(version.document)
        if seen.version >= version.number:
            return False
        if not older(version.published, seen.published):
            return False
        await put_last(self._corpus, context.record, seen.version, seen.published)
        return True

    async def _announce(self, version: _Version, context: Context) -> None:
        """Say on `poise.versions` what a version says; where a newer one is seen already, what that one says."""
        seen = await self._corpus.seen(version.document)
        if seen.version > version.number:
            version = await self._seen(version.document)
        digest = digest_of(version.source, version.bodies) if version.bodies else None
        await context.publish(
            VERSIONS,
            DocumentVersion(documents=self._corpus.epoch.topic_id, digest=digest),
            key=version.document,
            partition=context.record.partition,
            doc_version=version.number,
        )

    async def _publish(self, version: _Version, context: Context, *, announced: bool) -> None:
        if (await self._corpus.seen(version.document)).version >= version.number:
            return
        writing = _Writing(version, context)
        vectors = await self._vectors(version.bodies, await self._corpus.stored(version.document))
        await self._round_trip(await writing.parts(vectors, self._embedder.model))
        if await self._overtaken(version, context):  # by what another worker wrote meanwhile
            await self._restore(version, context)
            return
        seen = await self._corpus.seen(version.document)
        absent = not announced and not _is_there(seen)
        if not announced and not absent:
            await self._announce(version, context)
        if seen.version < version.number:
            await writing.tombstones(seen.parts)
            await self._round_trip(await writing.manifest(absent=absent))
            seen = await self._corpus.seen(version.document)
        if seen.version > version.number:
            await self._restore(version, context)

    async def _forget_absent(self, context: Context) -> None:
        """Forget some deletions of what was never there, whose time is over or of which there are too many."""
        partition = context.record.partition
        before = time.time() - ABSENT_FOR
        limits = {"most": ABSENT_MOST, "limit": _FORGET_AT_ONCE}
        over = await self._corpus.absent(partition, before=before, **limits)
        versions = [_Version(document, number, 0.0) for document, number in over]
        for version in versions:
            await self._round_trip(await _Writing(version, context).forget())
            if (await self._corpus.seen(version.document)).version > version.number:
                await self._restore(version, context)
        async for position in forget_notes(context, self._corpus, before=before, **limits):
            await self._round_trip(position)

    async def _restore(self, overtaken: _Version, context: Context) -> None:
        """Write the seen version of a document again: an older one was written over it."""
        await self._announce(overtaken, context)
        newer = await self._seen(overtaken.document)
        stored = await self._corpus.stored(overtaken.document)
        writing = _Writing(newer, context)
        await writing.parts(await self._vectors(newer.bodies, stored), self._embedder.model)
        await writing.tombstones(len(overtaken.bodies))
        absent = (await self._corpus.seen(overtaken.document)).absent
        await self._round_trip(await writing.manifest(absent=absent))

    async def _seen(self, document: str) -> _Version:
        """The version of a document that is seen here, as it was published."""
        seen = await self._corpus.seen(document)
        stored = await self._corpus.stored(document)
        return _Version(
            document=document,
            number=seen.version,
            published=seen.published,
            source=stored[0].source if stored else "",
            bodies=[part.body for part in stored],
        )

    async def _vectors(self, said: Sequence[Body], stored: Sequence[Stored]) -> list[str]:
        """The vectors of what is said, in its order; a vector of the same words by the same model is used again."""
        known: dict[Body, NDArray[np.float32]] = {p.body: p.vector for p in stored if p.vector is not None}
        new = list(dict.fromkeys(body for body in said if body not in known))
        if new:
            with span(semconv.EMBED_PARTS, attributes={semconv.PASSAGES: len(new)}):
                vectors = await self._embedder.texts([body.meaning for body in new])
            known |= dict(zip(new, vectors, strict=True))
        return [encode_vector(known[body]) for body in said]

    async def _round_trip(self, position: Position) -> None:
        try:
            async with asyncio.timeout(_ROUND_TRIP):
                await self._corpus.until_applied(position)
        except TimeoutError as error:
            raise RetryableError(
                f"{position} did not come round to this worker's index within {_ROUND_TRIP:.0f} s"
            ) from error


class _Writing:
    """Writes the records of one version."""

    def __init__(self, version: _Version, context: Context) -> None:
        self._version = version
        self._context = context

    async def parts(self, vectors: Sequence[str], model: str) -> Position:
        """Write the parts, or that there is not even the first; returns where the last one stands."""
        version = self._version
        if not version.bodies:
            return await self._write(part_key(version.document, 0), None)
        parts = [
            Part(
                document=version.document,
                part=number,
                source=version.source,
                heading=body.heading,
                text=body.text,
                vector=vector,
                model=model,
                published=version.published,
            )
            for number, (body, vector) in enumerate(zip(version.bodies, vectors, strict=True))
        ]
        return await self._write_all({part_key(part.document, part.part): part for part in parts})

    async def tombstones(self, before: int) -> None:
        """Write that the parts are gone which there were before and are not any more."""
        surplus = range(max(1, len(self._version.bodies)), before)
        if surplus:
            await self._write_all({part_key(self._version.document, number): None for number in surplus})

    async def manifest(self, *, absent: bool = False) -> Position:
        """Write that the version is whole; returns where that stands."""
        version = self._version
        manifest = Manifest(
            document=version.document,
            parts=len(version.bodies),
            published=version.published,
            absent=absent or None,
        )
        return await self._write(manifest_key(version.document), manifest)

    async def forget(self) -> Position:
        """Have the log forget that the version is whole; returns where that stands."""
        return await self._write(manifest_key(self._version.document), None)

    async def _write_all(self, messages: Mapping[str, Part | None]) -> Position:
        positions: list[Position] = []
        keys = list(messages)
        for first in range(0, len(keys), _AT_ONCE):
            some = keys[first : first + _AT_ONCE]
            positions += await asyncio.gather(*(self._write(key, messages[key]) for key in some))
        return max(positions, key=lambda position: position.offset)

    async def _write(self, key: str, message: Part | Manifest | None) -> Position:
        return await self._context.publish(
            PASSAGES,
            message,
            key=key,
            partition=self._context.record.partition,
            doc_version=self._version.number,
        )


def _is_there(seen: VersionState) -> bool:
    """Whether there is a document, or there was one: an answer may rest on it."""
    return seen.version >= 0 and not seen.absent


def _document_id(context: Context) -> str:
    """The document's id, which is its record's key.

    Raises:
        InvalidMessageError: It is missing, not UTF-8, too long, or has control characters.
    """
    record = context.record
    try:
        name = (record.key or b"").decode()
    except UnicodeDecodeError as error:
        raise _refused("is not UTF-8, and a document's id is its key") from error
    if not name:
        raise _refused("is missing, and a document's id is its key")
    try:
        _ID.validate_python(name)
    except ValidationError as error:
        raise _refused(f"is no document's id: {error.errors()[0]['msg']}") from error
    return name


def _refused(detail: str) -> InvalidMessageError:
    return InvalidMessageError(f"key: {detail}", [FieldError(field="key", detail=detail)])
