"""The records of a batch, decoded with every length checked: what a batch says of itself need not be true.

aiokafka's own decoder is five times as fast, and strict about header names. Given lengths that lie it reads outside of
the batch, and the process ends; a broker refuses such a batch, as far as it sees into it. So batches that came
compressed, in which two decompressors may see different things, are decoded here.
"""

import struct
from dataclasses import dataclass
from typing import Final

HEADER_BYTES: Final = 61
"""Bytes of a batch's header."""
MAX_HEADERS: Final = 10_000
"""Headers of a record: an empty one takes two bytes in a batch, and a hundred here."""
_BATCH_HEADER_LIMITS: Final = (10_000, 100, 200_000)
"""Headers that every batch may have; for each of its records, where that is more; and the most of any."""

_HEADER: Final = struct.Struct(">q13xh4xqq14xi")
_LOG_APPEND_TIME: Final = 0x08
_CONTINUATION: Final = 0x80
_SEVEN_BITS: Final = 7
_MAX_VARINT_BYTES: Final = 10


@dataclass(slots=True)
class DecodedRecord:
    """One record, as aiokafka's fetcher wants it."""

    offset: int
    timestamp: int
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]
    """What is not UTF-8 in a name is replaced."""
    checksum: None = None


def decode(header: bytes, records: bytes) -> list[DecodedRecord]:
    """Decode all records of a batch.

    Args:
        header: The batch's header.
        records: What stands behind it, decompressed.

    Raises:
        ValueError: It is not what the header says, or it has more headers than `check_headers` allows.
    """
    base, attributes, first, newest, count = _HEADER.unpack_from(header)
    appended = attributes & _LOG_APPEND_TIME
    found, at, left = [], 0, max_headers(count)
    for _ in range(count):
        length, at = _read_varint(records, at)
        end = at + length
        if not at < end <= len(records):
            raise ValueError(f"a record of {length} bytes where {len(records) - at} are left")
        since, at = _read_varint(records, at + 1)  # behind its attributes, of which there are none
        delta, at = _read_varint(records, at)
        key, at = _read_bytes(records, at, end)
        value, at = _read_bytes(records, at, end)
        headers, at = _read_headers(records, at, end, left)
        left -= len(headers)
        if at != end:
            raise ValueError(f"a record of {length} bytes that ends {at - end} bytes behind its end")
        found.append(
            DecodedRecord(base + delta, newest if appended else first + since, int(bool(appended)), key, value, headers)
        )
    if at != len(records):
        raise ValueError(f"{len(records) - at} bytes behind the last record")
    return found


def max_headers(records: int) -> int:
    """How many headers a batch of so many records may have.

    A fetch takes batches until it has enough records, in one turn of the event loop. So of few records few are allowed.
    """
    every, for_each, most = _BATCH_HEADER_LIMITS
    return min(max(every, for_each * records), most)


def check_headers(of_record: int, left: int) -> None:
    """See that a record has no more headers than it may.

    Args:
        of_record: How many it has.
        left: How many its batch may have from here on.

    Raises:
        ValueError: It has more.
    """
    if not 0 <= of_record <= MAX_HEADERS:
        raise ValueError(f"a record of {of_record} headers, where {MAX_HEADERS} are the most")
    if of_record > left:
        raise ValueError("more headers than a batch of so many records may have")


def _read_headers(raw: bytes, at: int, end: int, left: int) -> tuple[list[tuple[str, bytes | None]], int]:
    count, at = _read_varint(raw, at)
    check_headers(count, left)
    found: list[tuple[str, bytes | None]] = []
    for _ in range(count):
        name, at = _read_bytes(raw, at, end)
        if name is None:
            raise ValueError("a header without a name")
        value, at = _read_bytes(raw, at, end)
        found.append((name.decode(errors="replace"), value))
    return found, at


def _read_bytes(raw: bytes, at: int, end: int) -> tuple[bytes | None, int]:
    """Bytes behind their length; a negative one means null."""
    size, at = _read_varint(raw, at)
    if size < 0:
        return None, at
    stop = at + size
    if stop > end:
        raise ValueError(f"a field of {size} bytes where {end - at} are left")
    return raw[at:stop], stop


def _read_varint(raw: bytes, at: int) -> tuple[int, int]:
    """A number (zigzag, seven bits to a byte), and where it ends."""
    number = shift = 0
    for byte in raw[at : at + _MAX_VARINT_BYTES]:
        at += 1
        if byte < _CONTINUATION:
            number |= byte << shift
            return (number >> 1) ^ -(number & 1), at
        number |= (byte & ~_CONTINUATION) << shift
        shift += _SEVEN_BITS
    raise ValueError("a number that does not end")
