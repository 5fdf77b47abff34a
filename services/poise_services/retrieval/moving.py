"""Moving: a document, or a deletion, that its client wrote to another partition than murmur2 gives its key.

Clients differ in where they put a key (librdkafka: CRC32; sarama: FNV; kafka-go: in turn). Versions of a document are
ordered by their offsets in one partition, so such a record is written once more, where it belongs, and handled there.

    copied once    what was copied is noted in `poise.passages` (`Moved`), by document and partition: a record that is
                   delivered again, though its group starts over, is not copied again
    in order       of one partition copies are made in its order, by key; a copy never has an earlier time than the copy
                   before it. Between partitions the time of the record decides: a copy that is older than what is seen
                   is left alone, and what is seen is written behind it again, for the last of a key is what a compacted
                   log keeps
    no circle      a copy that is not where it belongs is a dead letter: workers that count partitions differently, or a
                   client that writes our headers, move nothing twice
    deleted        a deletion is written to each partition that something was copied from too: else the text would stay
                   there. Such a record is for the log alone
    forgotten      the note of a deletion goes after a while where there never was such a document: delivered again, it
                   is copied again, and deletes nothing
    epoch          the offset of what was copied counts as applied once its copy is: see `Ledger.release`

What can go wrong: a worker dies between the copy and its note. The record is delivered again and copied again, with the
same time and the same words, so that nothing is seen of it.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Final

from poise.contracts import Moved
from poise.contracts.topics import DOCUMENTS, PASSAGES
from poise.contracts.trace_context import TRACE_HEADERS
from poise.dead_letters.model import ORIGIN
from poise.errors import RetryableError
from poise.kafka.logs import Logs
from poise.kafka.record import Headers, Position, Record
from poise.worker.context import Context
from poise_services.retrieval.corpus import Corpus
from poise_services.retrieval.passages import moved_key

log = logging.getLogger(__name__)

MOVED_FROM: Final = "poise-moved-from"
"""On a copy: `topic/partition/offset` of what it is a copy of."""
MOVED_WRITTEN: Final = "poise-moved-written"
"""On a copy: when that was written, unix milliseconds."""
MOVED_TO: Final = "poise-moved-to"
"""On a deletion that is for the log alone: `topic/partition/offset` of the one that counts."""
READ_WITHIN: Final = 10.0


def is_copy(record: Record) -> bool:
    """Whether a record was moved already."""
    return record.raw_header(MOVED_FROM) is not None


def is_for_the_log(record: Record) -> bool:
    """Whether a record outside of its partition only has the log forget what was there."""
    return record.value is None and record.raw_header(MOVED_TO) is not None


def written(record: Record) -> float:
    """When a document was written, unix seconds: of a copy, when what it is a copy of was, but never in its future."""
    at = record.int_header(MOVED_WRITTEN) if is_copy(record) else None
    return record.timestamp if at is None else min(at / 1_000, record.timestamp)


def older(published: float, seen: float) -> bool:
    """Whether a copy was written before what is seen; headers have milliseconds."""
    return round(published * 1_000) < round(seen * 1_000)


async def move(document: str, home: int, context: Context, corpus: Corpus) -> Position | None:
    """Copy a record to the partition that it belongs in.

    Returns:
        Where in `poise.passages` that is noted; None where it was copied before.
    """
    record = context.record
    before = (await corpus.moved(document)).get(record.partition)
    if before is not None and before.offset >= record.offset:
        return None
    at = max(record.timestamp, before.published if before else 0.0)
    copy = await corpus.producer.send(
        DOCUMENTS.name, record.value, key=record.key, headers=_headers(record, at), partition=home
    )
    deletion = record.value is None or None
    noted = Moved(document=document, partition=home, version=copy.offset, published=at, deletion=deletion)
    return await context.publish(
        PASSAGES, noted, key=moved_key(document), partition=record.partition, doc_version=record.offset
    )


async def put_last(corpus: Corpus, overtaken: Record, version: int, published: float) -> None:
    """Write a version once more, behind a copy that is older: the last one of a key is what the log keeps."""
    newer = await _read_at(corpus.logs, overtaken.partition, version)
    if newer is None or newer.key != overtaken.key:
        log.warning("%s is older than version %d, which the log has not any more", overtaken.position, version)
        return
    await corpus.producer.send(
        DOCUMENTS.name, newer.value, key=newer.key, headers=_headers(newer, published), partition=newer.partition
    )


async def forget(document: str, context: Context, corpus: Corpus) -> None:
    """Have the log forget a deleted document in the partitions that something was copied from."""
    record = context.record
    headers = [(MOVED_TO, str(record.position).encode())]
    for partition in await corpus.moved(document):
        await corpus.producer.send(DOCUMENTS.name, None, key=record.key, headers=headers, partition=partition)


async def forget_notes(
    context: Context, corpus: Corpus, *, before: float, most: int, limit: int
) -> AsyncIterator[Position]:
    """Have the log forget that deletions of what was never there were moved from a partition.

    Whatever is moved meanwhile by another worker is noted again, for the null value would stand behind its note.

    Yields:
        Where in `poise.passages` each is forgotten; this goes on once that has been applied here.
    """
    partition = context.record.partition
    for document, offset in await corpus.moved_deletions(partition, before=before, most=most, limit=limit):
        key = moved_key(document)
        yield await context.publish(PASSAGES, None, key=key, partition=partition, doc_version=offset)
        newer = (await corpus.moved(document)).get(partition)
        if newer is not None:
            noted = Moved(
                document=document,
                partition=newer.home,
                version=newer.version,
                published=newer.published,
                deletion=newer.deletion or None,
            )
            yield await context.publish(PASSAGES, noted, key=key, partition=partition, doc_version=newer.offset)


def _headers(record: Record, at: float) -> Headers:
    """Those of the copy: what the client gave, and where it stood."""
    dropped = {*TRACE_HEADERS, MOVED_FROM, MOVED_WRITTEN, MOVED_TO}
    kept: list[tuple[str, bytes | None]] = [item for item in record.headers if item[0] not in dropped]
    if record.raw_header(ORIGIN) is None:
        kept.append((ORIGIN, str(record.position).encode()))
    return [
        *kept,
        (MOVED_FROM, str(record.position).encode()),
        (MOVED_WRITTEN, str(max(0, round(at * 1_000))).encode()),
    ]


async def _read_at(logs: Logs, partition: int, offset: int) -> Record | None:
    """The record at an offset; None where compaction has taken it."""
    try:
        async with (
            asyncio.timeout(READ_WITHIN),
            logs.follow(DOCUMENTS.name, start={partition: offset}, partitions=[partition]) as follower,
        ):
            async for records in follower:
                return records[0] if records[0].offset == offset else None
    except TimeoutError as error:
        raise RetryableError(f"{DOCUMENTS.name} could not be read within {READ_WITHIN:.0f} s") from error
    return None
