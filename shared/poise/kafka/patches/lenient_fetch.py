"""Read whatever a broker returns: one bad batch must not stop its consumer, and with it the whole group.

aiokafka decodes strictly, in the middle of a fetch. If it cannot decode a batch, its consumer can never read past it.
With this patch, invalid UTF-8 in header names is replaced (any client except aiokafka can write it), and a batch that
cannot be decoded becomes one `UndecodableRecord` with the batch's bytes. Its offset is the batch's last one, so that
finishing it finishes the batch.

    batch → checksum → aborted transaction, or a marker? skipped → decompressed, up to a bound → decoded

A damaged batch is never skipped: only its damaged header says that it is a marker, or belongs to an aborted
transaction.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Final

from aiokafka.consumer import fetcher
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.legacy_records import LegacyRecordBatch
from aiokafka.structs import ConsumerRecord

from poise.kafka.decompression import decompress
from poise.kafka.patches.versions import check_version
from poise.kafka.record import UndecodableBatch
from poise.kafka.record_batch import HEADER_BYTES, check_headers, decode, max_headers
from poise.text.error_text import error_message

MAX_RECORDS: Final = 100_000
"""Maximum number of records in a batch; clients write at most 10,000 by default."""

# Positions of fields in a batch: Kafka's documentation, "Record Batch".
_LENGTH: Final = 8
_PREFIX: Final = 12
"""Bytes in front that the length field does not count."""
_MIN_LENGTH: Final = 14
"""Minimum value of the length field."""
_MAGIC: Final = 16
_CURRENT_MAGIC: Final = 2
_LAST_OFFSET_DELTA: Final = 23
_RECORD_COUNT: Final = 57


def install() -> None:
    """Make every consumer of this process read leniently, from now on."""
    check_version("aiokafka")
    reader: Any = fetcher
    reader.MemoryRecords = LenientRecords
    reader.PartitionRecords = LenientPartitionRecords


@dataclass
class UndecodableRecord(ConsumerRecord[bytes, bytes]):
    """A batch that cannot be decoded; its value is the batch's bytes."""

    undecodable: UndecodableBatch | None = None


@dataclass
class TransactionalRecord(ConsumerRecord[bytes, bytes]):
    """A record of a transaction, which may still be open if the consumer reads uncommitted records."""


class LenientPartitionRecords(fetcher.PartitionRecords):
    """The records of one partition in a fetch."""

    def __init__(self, tp: Any, records: "LenientRecords", aborted: Any, fetch_offset: int, *rest: Any) -> None:
        records.start = fetch_offset
        self._batches = records
        super().__init__(tp, records, aborted, fetch_offset, *rest)  # type: ignore[no-untyped-call]  # aiokafka has no types

    def _consumer_record(self, tp: Any, record: Any) -> Any:
        if not isinstance(record, _Undecodable):
            found = super()._consumer_record(tp, record)  # type: ignore[no-untyped-call]
            return TransactionalRecord(**vars(found)) if self._batches.transactional else found
        return UndecodableRecord(
            tp.topic,
            tp.partition,
            record.offset,
            round(time.time() * 1_000),  # the batch's own time is not reliable
            0,
            None,
            record.raw,
            None,
            -1,
            len(record.raw),
            (),
            UndecodableBatch(record.first_offset, record.reason),
        )


class LenientRecords:
    """The batches of one partition in a fetch."""

    def __init__(self, raw: bytes) -> None:
        self.start = 0
        """The requested offset."""
        self.transactional = False
        """Whether the last batch was written in a transaction."""
        self._raw = raw
        self._index = 0
        self._end = self._end_of_batch(0)

    def size_in_bytes(self) -> int:
        """Return the number of bytes."""
        return len(self._raw)

    def has_next(self) -> bool:
        """Return whether there is another batch. The broker may cut off the last one, which is then fetched again."""
        return self._end is not None or (self._index == 0 and bool(self._raw))

    def next_batch(self) -> "_Batch":
        """Return the next batch."""
        start, self._index = self._index, self._end or len(self._raw)
        self._end = self._end_of_batch(self._index)
        raw = self._raw[start : self._index]
        # A batch that is cut off is first only if its length is wrong: the broker returns the first one whole.
        following = None if self._end is None else _base_offset(self._raw, self._index)
        batch = _Batch(raw, self.start, following)
        self.transactional = batch.is_transactional
        return batch

    def _end_of_batch(self, index: int) -> int | None:
        if len(self._raw) < index + _PREFIX:
            return None
        end = index + _length(self._raw, index)
        return end if index + _PREFIX + _MIN_LENGTH <= end <= len(self._raw) else None


@dataclass(frozen=True, slots=True)
class _Undecodable:
    first_offset: int
    offset: int
    raw: bytes
    reason: str


_ABORTED: Final = SimpleNamespace(key=bytes(4))


class _Batch:
    """One batch, with the interface that the fetcher expects: the header is read at once, the records on iteration.

    Args:
        raw: The batch's bytes.
        start: The requested offset.
        following: The base offset of the next batch in the fetch; None = there is none.
    """

    def __init__(self, raw: bytes, start: int, following: int | None) -> None:
        self._raw = raw
        self._batch, self._damage = _open(raw)
        self.base_offset = _base_offset(raw, 0)
        self.producer_id = getattr(self._batch, "producer_id", None)
        # The header of a damaged batch is not trusted: the batch may hold committed messages.
        self.is_transactional = not self._damage and bool(getattr(self._batch, "is_transactional", False))
        self.is_control_batch = bool(getattr(self._batch, "is_control_batch", False))
        known = self._known_next_offset(following if following is not None and following > start else None)
        self.next_offset = max(self.base_offset, start) + 1 if known is None else known
        self._offset = self.base_offset if known is None else known - 1

    def _known_next_offset(self, following: int | None) -> int | None:
        """Return the next offset, if known. After a damaged batch: the next batch's, or what a consistent header says.

        None = not known. Then one offset after the requested one is fetched: if that is too far, the broker has no such
        offset; if it is not far enough, the broker returns the same batch, whose first offset has been read by then.
        """
        if self._damage and (following is not None or self._batch is None or not _is_consistent(self._raw)):
            return following
        return int(self._batch.next_offset)

    def validate_crc(self) -> bool:
        """Return True: a damaged batch is returned as undecodable."""
        return True

    def __next__(self) -> Any:
        """Return the marker at the end of a transaction.

        A damaged marker ends an aborted transaction: otherwise what its producer committed later would be skipped too.
        It is also returned like any damaged batch, because it may hold messages.
        """
        if self._damage:
            self.is_control_batch = False
            return _ABORTED
        return next(self._batch)

    def __iter__(self) -> Iterator[Any]:
        if not self._damage:
            try:  # decode all records before the first is returned: a batch is handled or dead-lettered as a whole
                records = _records(self._batch, self._raw)
                _check_records(records, self._batch)
                return iter(records)
            except Exception as error:  # noqa: BLE001 - any error means that the batch is undecodable
                self._damage = error_message(error)
        return iter([_Undecodable(self.base_offset, self._offset, bytes(self._raw), self._damage)])


def _open(raw: bytes) -> tuple[Any, str]:
    """Return the batch, None if its header cannot be read, and what is wrong with it."""
    if len(raw) < _PREFIX + _MIN_LENGTH or _length(raw, 0) != len(raw):
        return None, "its length is wrong"
    magic = raw[_MAGIC]
    try:
        batch = DefaultRecordBatch(raw) if magic >= _CURRENT_MAGIC else LegacyRecordBatch(raw, magic)
        return batch, "" if batch.validate_crc() else "its checksum is not that of its bytes"
    except Exception as error:  # noqa: BLE001 - any error means that the batch is undecodable
        return None, error_message(error)


def _is_consistent(raw: bytes) -> bool:
    """Return whether the two record counts in a header of the current format agree."""
    count, last = _number(raw, _RECORD_COUNT), _number(raw, _LAST_OFFSET_DELTA)
    return raw[_MAGIC] == _CURRENT_MAGIC and count == last + 1 and 0 < count <= MAX_RECORDS


def _records(batch: Any, raw: bytes) -> list[Any]:
    if isinstance(batch, LegacyRecordBatch):
        return list(batch)
    count = _number(raw, _RECORD_COUNT)
    if count > MAX_RECORDS:
        raise ValueError(f"{count} records; the limit is {MAX_RECORDS}")
    if codec := batch.compression_type:
        return decode(raw, decompress(codec, raw[HEADER_BYTES:]))
    try:
        return list(batch)
    except UnicodeDecodeError:
        return decode(raw, raw[HEADER_BYTES:])


def _check_records(records: list[Any], batch: Any) -> None:
    """Check that the records lie in their batch in ascending order, so that reading one means having read those before.

    Also checks the number of headers, for records that aiokafka decoded.

    Raises:
        ValueError: A record is out of order, or has too many headers.
    """
    last, end, left = getattr(batch, "base_offset", 0) - 1, batch.next_offset, max_headers(len(records))
    for record in records:
        count = len(record.headers)
        check_headers(count, left)
        left -= count
        if not last < record.offset < end:
            raise ValueError(f"record {record.offset} after {last}, in a batch that ends before {end}")
        last = record.offset


def _length(raw: bytes, index: int) -> int:
    """Return the size of the batch that begins there, from its length field."""
    return _PREFIX + _number(raw, index + _LENGTH)


def _number(raw: bytes, index: int) -> int:
    return int.from_bytes(raw[index : index + 4], signed=True)


def _base_offset(raw: bytes, index: int) -> int:
    return int.from_bytes(raw[index : index + 8], signed=True)
