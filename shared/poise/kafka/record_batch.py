"""Decode the records of a batch with every length checked, because the lengths in a batch may be false.

aiokafka's decoder is five times as fast, but strict about header names, and false lengths make it read outside of the
batch and crash the process. A broker refuses such a batch if it can see the lengths. So compressed batches, in which
broker and client may see different bytes, are decoded here.
"""

import struct
from dataclasses import dataclass
from typing import Final

HEADER_BYTES: Final = 61
"""Size of a batch's header."""
MAX_HEADERS: Final = 10_000
"""Maximum number of headers of a record: an empty one takes two bytes in a batch, but a hundred in memory."""
MAX_HEADERS_IN_SHARED_BATCH: Final = 100
"""A record with more headers must be the only one of its batch: the limit of a batch allows each record this number."""
_BATCH_HEADER_LIMITS: Final = (10_000, MAX_HEADERS_IN_SHARED_BATCH, 200_000)
"""Headers that any batch may have; headers for each of its records, if that is more; and the most of any batch."""

_HEADER: Final = struct.Struct(">q13xh4xqq14xi")
_LOG_APPEND_TIME: Final = 0x08
_CONTINUATION: Final = 0x80
_SEVEN_BITS: Final = 7
_MAX_VARINT_BYTES: Final = 10


@dataclass(slots=True)
class DecodedRecord:
    """One record, with the attributes that aiokafka's fetcher reads."""

    offset: int
    timestamp: int
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]
    """Invalid UTF-8 in names is replaced."""
    checksum: None = None


def decode(header: bytes, records: bytes) -> list[DecodedRecord]:
    """Decode all records of a batch.

    Args:
        header: The batch's header.
        records: The decompressed bytes after the header.

    Raises:
        ValueError: The bytes contradict the header, or there are more headers than `check_headers` allows.
    """
    base, attributes, first, newest, count = _HEADER.unpack_from(header)
    appended = attributes & _LOG_APPEND_TIME
    found, index, left = [], 0, max_headers(count)
    for _ in range(count):
        length, index = _read_varint(records, index)
        end = index + length
        if not index < end <= len(records):
            raise ValueError(f"a record of {length} bytes where {len(records) - index} are left")
        since, index = _read_varint(records, index + 1)  # after the attributes byte, which is unused
        delta, index = _read_varint(records, index)
        key, index = _read_bytes(records, index, end)
        value, index = _read_bytes(records, index, end)
        headers, index = _read_headers(records, index, end, left)
        left -= len(headers)
        if index != end:
            raise ValueError(f"a record of {length} bytes that ends {index - end} bytes behind its end")
        found.append(
            DecodedRecord(base + delta, newest if appended else first + since, int(bool(appended)), key, value, headers)
        )
    if index != len(records):
        raise ValueError(f"{len(records) - index} bytes behind the last record")
    return found


def max_headers(records: int) -> int:
    """Return how many headers a batch with a number of records may have.

    A fetch decodes batches until it has enough records, without yielding to the event loop. So a batch of few records
    may have few headers.
    """
    every, for_each, most = _BATCH_HEADER_LIMITS
    return min(max(every, for_each * records), most)


def check_headers(of_record: int, allowed: int) -> None:
    """Check that a record does not have too many headers.

    Args:
        of_record: Its number of headers.
        allowed: How many headers its batch may still have.

    Raises:
        ValueError: It has too many.
    """
    if not 0 <= of_record <= MAX_HEADERS:
        raise ValueError(f"a record of {of_record} headers; the limit is {MAX_HEADERS}")
    if of_record > allowed:
        raise ValueError("more headers than a batch with this number of records may have")


def _read_headers(raw: bytes, index: int, end: int, allowed: int) -> tuple[list[tuple[str, bytes | None]], int]:
    count, index = _read_varint(raw, index)
    check_headers(count, allowed)
    found: list[tuple[str, bytes | None]] = []
    for _ in range(count):
        name, index = _read_bytes(raw, index, end)
        if name is None:
            raise ValueError("a header without a name")
        value, index = _read_bytes(raw, index, end)
        found.append((name.decode(errors="replace"), value))
    return found, index


def _read_bytes(raw: bytes, index: int, end: int) -> tuple[bytes | None, int]:
    """Read a field after its length, and return it with its end; a negative length means null."""
    size, index = _read_varint(raw, index)
    if size < 0:
        return None, index
    stop = index + size
    if stop > end:
        raise ValueError(f"a field of {size} bytes where {end - index} are left")
    return raw[index:stop], stop


def _read_varint(raw: bytes, index: int) -> tuple[int, int]:
    """Read a zigzag varint, and return it with its end."""
    number = shift = 0
    for byte in raw[index : index + _MAX_VARINT_BYTES]:
        index += 1
        if byte < _CONTINUATION:
            number |= byte << shift
            return (number >> 1) ^ -(number & 1), index
        number |= (byte & ~_CONTINUATION) << shift
        shift += _SEVEN_BITS
    raise ValueError("a varint that does not end")
