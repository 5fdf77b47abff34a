"""Reading whatever a broker hands out: one bad batch must not end its reader, nor those of the whole group.

aiokafka decodes strictly, in the middle of a fetch: a batch that it cannot decode stays where it is, and its consumer
can read no further. Here a record's header names are decoded with what is not UTF-8 replaced, as any client but
aiokafka can write them; and a batch that cannot be decoded at all becomes one record, of the type `UndecodableRecord`,
which holds the batch's own bytes. It stands at the batch's last offset, so that to finish it is to finish the batch.

    batch → checksum → of an aborted transaction, or its marker? passed over → decompressed, up to a bound → decoded

What is damaged is never passed over: that it is a marker, or of an aborted transaction, only its damaged header says.
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
from poise.kafka.record import UndecodableBatch
from poise.kafka.record_batch import HEADER_BYTES, check_headers, decode, max_headers
from poise.text.error_text import words_of

MAX_RECORDS: Final = 100_000
"""Records in a batch; clients write 10,000 at most unless they are told otherwise."""

# Where things stand in a batch: Kafka's documentation, "Record Batch".
_LENGTH: Final = 8
_PREFIX: Final = 12
"""Bytes that the length does not count."""
_MIN_LENGTH: Final = 14
"""Bytes behind them, at least."""
_MAGIC: Final = 16
_CURRENT_MAGIC: Final = 2
_LAST_OFFSET_DELTA: Final = 23
_RECORD_COUNT: Final = 57


def install() -> None:
    """Have every consumer of this process read so, from now on."""
    reader: Any = fetcher
    reader.MemoryRecords = LenientRecords
    reader.PartitionRecords = LenientPartitionRecords


@dataclass
class UndecodableRecord(ConsumerRecord[bytes, bytes]):
    """A batch that cannot be decoded; its value is the batch's bytes."""

    undecodable: UndecodableBatch | None = None


@dataclass
class TransactionalRecord(ConsumerRecord[bytes, bytes]):
    """A record that was written in a transaction, which may be open where what is not committed is read."""


class LenientPartitionRecords(fetcher.PartitionRecords):
    """The records that a fetch brought of one partition."""

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
            round(time.time() * 1_000),  # its own cannot be relied on
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
    """What a fetch brought of one partition, batch by batch."""

    def __init__(self, raw: bytes) -> None:
        self.start = 0
        """The offset that was asked for."""
        self.transactional = False
        """Whether the last batch was written in a transaction."""
        self._raw = raw
        self._at = 0
        self._end = self._end_of_batch(0)

    def size_in_bytes(self) -> int:
        """How much it is."""
        return len(self._raw)

    def has_next(self) -> bool:
        """Whether there is another batch; the last one may have been cut off by the broker, and is fetched again."""
        return self._end is not None or (self._at == 0 and bool(self._raw))

    def next_batch(self) -> "_Batch":
        """The next batch."""
        start, self._at = self._at, self._end or len(self._raw)
        self._end = self._end_of_batch(self._at)
        raw = self._raw[start : self._at]
        # One that was cut off comes first only where its length is wrong: the broker hands out the first one whole.
        following = None if self._end is None else _base_offset(self._raw, self._at)
        batch = _Batch(raw, self.start, following)
        self.transactional = batch.is_transactional
        return batch

    def _end_of_batch(self, at: int) -> int | None:
        if len(self._raw) < at + _PREFIX:
            return None
        end = at + _length(self._raw, at)
        return end if at + _PREFIX + _MIN_LENGTH <= end <= len(self._raw) else None


@dataclass(frozen=True, slots=True)
class _Undecodable:
    first_offset: int
    offset: int
    raw: bytes
    reason: str


_ABORTED: Final = SimpleNamespace(key=bytes(4))


class _Batch:
    """One batch, as the fetcher wants it: its header at once, its records when it is iterated over.

    Args:
        raw: Its bytes.
        start: The offset that the fetch asked for.
        following: Where the next batch begins; None = none came with it.
    """

    def __init__(self, raw: bytes, start: int, following: int | None) -> None:
        self._raw = raw
        self._batch, self._damage = _open(raw)
        self.base_offset = _base_offset(raw, 0)
        self.producer_id = getattr(self._batch, "producer_id", None)
        # What a damaged one says of itself is not believed: it may as well be messages that were committed.
        self.is_transactional = not self._damage and bool(getattr(self._batch, "is_transactional", False))
        self.is_control_batch = bool(getattr(self._batch, "is_control_batch", False))
        told = self._told_next(following if following is not None and following > start else None)
        self.next_offset = max(self.base_offset, start) + 1 if told is None else told
        self._offset = self.base_offset if told is None else told - 1

    def _told_next(self, following: int | None) -> int | None:
        """Where to read on. Behind a damaged batch where the next one begins, or where its header says, if it agrees.

        None = nothing tells. Then it is one offset further than was asked for: one too far and the broker would have no
        such offset, one too near and it hands out the same batch, whose first offset has been read by then.
        """
        if self._damage and (following is not None or self._batch is None or not _is_consistent(self._raw)):
            return following
        return int(self._batch.next_offset)

    def validate_crc(self) -> bool:
        """What is damaged is handed out as such."""
        return True

    def __next__(self) -> Any:
        """The marker at the end of a transaction.

        A damaged one ends an aborted transaction, or else what its producer committed later would be passed over too;
        and it is handed out like any damaged batch, for it may as well be messages.
        """
        if self._damage:
            self.is_control_batch = False
            return _ABORTED
        return next(self._batch)

    def __iter__(self) -> Iterator[Any]:
        if not self._damage:
            try:  # all of it before the first is handed out: it is handled as a whole or set aside as a whole
                records = _records(self._batch, self._raw)
                _check_records(records, self._batch)
                return iter(records)
            except Exception as error:  # noqa: BLE001 - whatever is wrong with it
                self._damage = words_of(error)
        return iter([_Undecodable(self.base_offset, self._offset, bytes(self._raw), self._damage)])


def _open(raw: bytes) -> tuple[Any, str]:
    """The batch, None where its header cannot be read; and what is wrong with it."""
    if len(raw) < _PREFIX + _MIN_LENGTH or _length(raw, 0) != len(raw):
        return None, "its length is wrong"
    magic = raw[_MAGIC]
    try:
        batch = DefaultRecordBatch(raw) if magic >= _CURRENT_MAGIC else LegacyRecordBatch(raw, magic)
        return batch, "" if batch.validate_crc() else "its checksum is not that of its bytes"
    except Exception as error:  # noqa: BLE001 - whatever is wrong with it
        return None, words_of(error)


def _is_consistent(raw: bytes) -> bool:
    """Whether a header of the newest form says the same number of records twice."""
    count, last = _number(raw, _RECORD_COUNT), _number(raw, _LAST_OFFSET_DELTA)
    return raw[_MAGIC] == _CURRENT_MAGIC and count == last + 1 and 0 < count <= MAX_RECORDS


def _records(batch: Any, raw: bytes) -> list[Any]:
    if isinstance(batch, LegacyRecordBatch):
        return list(batch)
    count = _number(raw, _RECORD_COUNT)
    if count > MAX_RECORDS:
        raise ValueError(f"{count} records, where {MAX_RECORDS} are the most")
    if codec := batch.compression_type:
        return decode(raw, decompress(codec, raw[HEADER_BYTES:]))
    try:
        return list(batch)
    except UnicodeDecodeError:
        return decode(raw, raw[HEADER_BYTES:])


def _check_records(records: list[Any], batch: Any) -> None:
    """See that the records lie in their batch, each behind the last: who has read one has read all before it.

    That they have not too many headers is seen here too, for those that aiokafka decoded.

    Raises:
        ValueError: They do not, or have.
    """
    last, end, left = getattr(batch, "base_offset", 0) - 1, batch.next_offset, max_headers(len(records))
    for record in records:
        count = len(record.headers)
        check_headers(count, left)
        left -= count
        if not last < record.offset < end:
            raise ValueError(f"record {record.offset} behind {last}, in a batch that ends before {end}")
        last = record.offset


def _length(raw: bytes, at: int) -> int:
    """Bytes of the batch that begins there, by what it says."""
    return _PREFIX + _number(raw, at + _LENGTH)


def _number(raw: bytes, at: int) -> int:
    return int.from_bytes(raw[at : at + 4], signed=True)


def _base_offset(raw: bytes, at: int) -> int:
    return int.from_bytes(raw[at : at + 8], signed=True)
