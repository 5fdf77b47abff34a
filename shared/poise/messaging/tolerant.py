"""Reading records whose header names are not UTF-8, as any client but aiokafka can write them.

aiokafka decodes names strictly, in the middle of a fetch: one such record and its consumer can read no further, nor can
any other of the group, for the record stays where it is. Here its batch is read once more, by aiokafka's own slower
reader, with what cannot be decoded replaced; such a message is then handled, or set aside, like any other.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from aiokafka.consumer import fetcher
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords, _MemoryRecordsPy


def read_tolerantly() -> None:
    """Have every consumer of this process read so, from now on."""
    fetcher.MemoryRecords = TolerantRecords  # type: ignore[attr-defined]  # the fetcher's name for its reader


class TolerantRecords:
    """What a fetch brought of one partition, batch by batch."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._records = MemoryRecords(raw)
        self._batches = 0
        self.size_in_bytes = self._records.size_in_bytes
        self.has_next = self._records.has_next

    def next_batch(self) -> Any:
        """The next batch."""
        batch = self._records.next_batch()
        self._batches += 1
        return None if batch is None else _Batch(batch, self._raw, self._batches - 1)


class _Batch:
    """A batch that is read the fast way until a record cannot be."""

    def __init__(self, batch: Any, raw: bytes, number: int) -> None:
        self._batch = batch
        self._raw = raw
        self._number = number

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __next__(self) -> Any:
        return next(self._batch)  # the marker at the end of a transaction, which has no headers

    def __iter__(self) -> Iterator[Any]:
        read = 0
        try:
            for record in self._batch:
                yield record
                read += 1
        except UnicodeDecodeError:
            yield from islice(self._again(), read, None)

    def _again(self) -> Iterator[Any]:
        records = _SlowRecords(self._raw)
        for _ in range(self._number):
            records.next_batch()
        return iter(records.next_batch())


class _SlowRecords(_MemoryRecordsPy):  # type: ignore[misc]  # final, and all that there is
    def next_batch(self) -> Any:  # type: ignore[override]
        raw = self._next_slice
        self._cache_next()
        return _SlowBatch(raw or b"")


class _SlowBatch(_DefaultRecordBatchPy):  # type: ignore[misc]
    def __iter__(self) -> Any:
        super().__iter__()  # uncompresses
        self._buffer = _Buffer(self._buffer)
        return self


class _Buffer(bytearray):
    """Bytes whose parts are decoded with a replacement for what is not UTF-8."""

    def __getitem__(self, place: Any) -> Any:
        part = super().__getitem__(place)
        return part if isinstance(part, int) else _Part(part)


class _Part(bytes):
    def decode(self, encoding: str = "utf-8", errors: str = "replace") -> str:
        return super().decode(encoding, errors)
