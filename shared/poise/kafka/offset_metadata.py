"""Commit metadata: encodes the finished offsets above a committed one.

Kafka stores up to 4096 bytes of text with each committed offset. There are two formats, and the shorter one is written:
`p1b` and a bitmap, or `p1r` and the lengths of runs, both in base64 without padding (RFC 4648, §5). The idea is from
Confluent's parallel-consumer for Java.
"""

from base64 import b64decode, urlsafe_b64encode
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Final

MAX_LENGTH: Final = 4096 - 37
"""Bytes: Kafka's default of `offset.metadata.max.bytes`, less the topic id in front."""
BITMAP: Final = "p1b"
RUN_LENGTHS: Final = "p1r"
_MAX_BYTES: Final = (MAX_LENGTH - len(BITMAP)) * 3 // 4
_BITS: Final = 8
_SEVEN_BITS: Final = 7


def encode(watermark: int, finished: Sequence[range]) -> tuple[str, bool]:
    """Encode finished ranges.

    Args:
        watermark: The committed offset.
        finished: Ranges above it, ascending, not adjacent.

    Returns:
        The text, and whether it holds all ranges. If not, it holds as many as fit, lowest first.
    """
    if not finished:
        return "", True
    runs, fitting = _runs(watermark, finished)
    bits = min(finished[-1].stop - watermark, _MAX_BYTES * _BITS)
    if fitting < len(finished) or bits < len(runs) * _BITS:
        bitmap = _bitmap(watermark, finished, bits)
        reach = watermark + bits
        if finished[-1].stop <= reach or finished[fitting].start < reach:
            return BITMAP + _base64(bitmap), finished[-1].stop <= reach
    return RUN_LENGTHS + _base64(runs), fitting == len(finished)


def decode(watermark: int, metadata: str) -> list[range]:
    """Return the finished ranges, ascending and not adjacent.

    Raises:
        ValueError: The metadata has neither format.
    """
    if not metadata:
        return []
    form, text = metadata[: len(BITMAP)], metadata[len(BITMAP) :]
    raw = b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    if form == BITMAP:
        bits = (offset for offset in range(len(raw) * _BITS) if raw[offset // _BITS] >> offset % _BITS & 1)
        return _joined(watermark + bit for bit in bits)
    if form == RUN_LENGTHS:
        edges = [watermark]
        for length in _varints(raw):
            edges.append(edges[-1] + length)
        return [range(start, stop) for start, stop in list(pairwise(edges))[1::2]]
    raise ValueError(f"commit metadata in an unknown format: {metadata[:40]!r}")


def _runs(watermark: int, finished: Sequence[range]) -> tuple[bytes, int]:
    """Return the lengths of alternating unfinished and finished runs as LEB128, and how many ranges fit."""
    written, edge = bytearray(), watermark
    for number, span in enumerate(finished):
        pair = _leb128(span.start - edge) + _leb128(len(span))
        if len(written) + len(pair) > _MAX_BYTES:
            return bytes(written), number
        written += pair
        edge = span.stop
    return bytes(written), len(finished)


def _bitmap(watermark: int, finished: Iterable[range], bits: int) -> bytes:
    number = 0
    for span in finished:
        start, stop = span.start - watermark, min(span.stop - watermark, bits)
        if start < stop:
            number |= (1 << stop) - (1 << start)
    return number.to_bytes(-(-bits // _BITS), "little")


def _leb128(number: int) -> bytes:
    written = bytearray()
    while number > 0x7F:  # noqa: PLR2004 - seven bits
        written.append(number & 0x7F | 0x80)
        number >>= _SEVEN_BITS
    written.append(number)
    return bytes(written)


def _varints(raw: bytes) -> Iterator[int]:
    number = shift = 0
    for byte in raw:
        number |= (byte & 0x7F) << shift
        if byte & 0x80:
            shift += _SEVEN_BITS
        else:
            yield number
            number = shift = 0
    if shift:
        raise ValueError("commit metadata is cut off")


def _joined(offsets: Iterable[int]) -> list[range]:
    found: list[range] = []
    for offset in offsets:
        if found and found[-1].stop == offset:
            found[-1] = range(found[-1].start, offset + 1)
        else:
            found.append(range(offset, offset + 1))
    return found


def _base64(raw: bytes) -> str:
    return urlsafe_b64encode(raw).decode().rstrip("=")
