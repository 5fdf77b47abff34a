"""Decompress the records of a batch, in Kafka's four codecs, up to a bound.

Kafka limits only the compressed size of a batch: two kilobytes of zstd can expand to gigabytes.
"""

import mmap
from collections.abc import Callable
from typing import Any, Final

import cramjam

MAX_DECOMPRESSED_BYTES: Final = 8 * 1024 * 1024
"""Largest decompressed size of one batch: eight times the largest record of a request topic."""

_XERIAL: Final = b"\x82SNAPPY\0"
_XERIAL_HEADER: Final = 16
_LENGTH: Final = 4
_NO_ROOM: Final = "failed to write whole buffer"


def decompress(codec: int, data: bytes) -> bytes:
    """Return the decompressed records of a batch.

    Args:
        codec: Kafka's number of the codec, 1 to 4.
        data: The compressed records.

    Raises:
        ValueError: The codec is unknown, the data is damaged, or it is larger than `MAX_DECOMPRESSED_BYTES`.
    """
    name, into = _CODECS.get(codec, (None, None))
    if name is None or into is None:
        raise ValueError(f"Kafka has no codec {codec}")
    with mmap.mmap(-1, MAX_DECOMPRESSED_BYTES) as room:  # pages that are not written cost nothing
        try:
            return room[: into(data, room)]
        except cramjam.DecompressionError as error:
            if _NO_ROOM in str(error):
                raise ValueError(f"{name}: {len(data)} bytes expand to more than {MAX_DECOMPRESSED_BYTES}") from None
            raise ValueError(f"{name}: {str(error).removeprefix(f'{name}: ')}") from None


def _snappy(data: bytes, room: mmap.mmap) -> int:
    """Decompress one block (librdkafka's and Go's format), or blocks with lengths (Java's and Python's)."""
    if not data.startswith(_XERIAL):
        return _snappy_block(data, room, 0)
    written, index = 0, _XERIAL_HEADER
    while index < len(data):
        length, index = int.from_bytes(data[index : index + _LENGTH], signed=True), index + _LENGTH
        if not 0 <= length <= len(data) - index:
            raise cramjam.DecompressionError(f"a block of {length} bytes where {len(data) - index} are left")
        written += _snappy_block(data[index : index + length], room, written)
        index += length
    return written


def _snappy_block(block: bytes, room: mmap.mmap, index: int) -> int:
    if cramjam.snappy.decompress_raw_len(block) > MAX_DECOMPRESSED_BYTES - index:
        raise cramjam.DecompressionError(_NO_ROOM)
    with memoryview(room) as view, view[index:] as rest:
        return int(cramjam.snappy.decompress_raw_into(block, rest))


_CODECS: Final[dict[int, tuple[str, Callable[[bytes, Any], int]]]] = {
    1: ("gzip", cramjam.gzip.decompress_into),
    2: ("snappy", _snappy),
    3: ("lz4", cramjam.lz4.decompress_into),
    4: ("zstd", cramjam.zstd.decompress_into),
}
