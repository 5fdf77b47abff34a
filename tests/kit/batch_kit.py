"""Batches of records as bytes: valid ones, and ones that a broker accepts but no client decodes."""

import struct
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import cramjam
from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import NoError, for_code
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c

HEADER: Final = 61
"""Bytes of a batch before its records."""
CODECS: Final = {"gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}

Headers = Sequence[tuple[str, bytes | None]]


def batch(values: Sequence[bytes | None], *, key: bytes | None = None, headers: Headers = (), offset: int = 0) -> bytes:
    """Return an uncompressed batch."""
    builder: Any = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=0,
        is_transactional=0,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=1 << 30,
    )
    for number, value in enumerate(values):
        assert builder.append(number, round(time.time() * 1_000), key, value, list(headers)) is not None
    return struct.pack(">q", offset) + bytes(builder.build())[8:]


def packed(plain: bytes, codec: str, payload: bytes | None = None) -> bytes:
    """Return a batch with its records compressed, or with another payload in their place."""
    if payload is None:
        raw = plain[HEADER:]
        payload = compressed(raw, codec)
    header = bytearray(plain[:HEADER])
    header[22] |= CODECS[codec]
    return checked(bytes(header) + payload)


def compressed(raw: bytes, codec: str, *, checksum: bool = False) -> bytes:
    """Compress bytes with one of Kafka's codecs; a broker requires independent blocks of LZ4."""
    if codec == "snappy":
        return bytes(cramjam.snappy.compress_raw(raw))
    if codec != "lz4":
        compress: Any = getattr(cramjam, codec)
        return bytes(compress.compress(raw))
    compressor: Any = cramjam.lz4.Compressor(content_checksum=checksum, block_linked=False)
    compressor.compress(raw)
    return bytes(compressor.finish())


def checked(raw: bytes) -> bytes:
    """Return the batch with a correct length and checksum."""
    raw = raw[:8] + struct.pack(">i", len(raw) - 12) + raw[12:]
    return raw[:17] + struct.pack(">I", calc_crc32c(raw[21:])) + raw[21:]


# -- batches that a broker accepts -----------------------------------------------------------------------------------


def bomb(codec: str) -> bytes:
    """Return a few kilobytes that expand to 30 MB."""
    return packed(batch([bytes(30 << 20)]), codec)


def many_headers() -> bytes:
    """Return two kilobytes that expand to 300,000 headers."""
    return packed(batch([b"{}"] * 300, headers=[("", None)] * 1_000), "zstd")


def two_frames(key: bytes | None = None) -> bytes:
    """Return two frames of LZ4: a broker reads only the first."""
    plain = batch([b"one", b"two"], key=key)
    frame = compressed(plain[HEADER:], "lz4")
    return packed(plain, "lz4", frame + frame)


def wrong_checksum_inside(key: bytes | None = None) -> bytes:
    """Return an LZ4 frame with a wrong checksum at its end, which a broker does not check."""
    plain = batch([b"one", b"two"], key=key)
    frame = bytearray(compressed(plain[HEADER:], "lz4", checksum=True))
    frame[-1] ^= 0xFF
    return packed(plain, "lz4", bytes(frame))


def trailing_bytes(key: bytes | None = None) -> bytes:
    """Return a gzip member followed by bytes that a broker does not read."""
    plain = batch([b"one", b"two"], key=key)
    return packed(plain, "gzip", compressed(plain[HEADER:], "gzip") + b"trailing")


def far_offset(key: bytes | None = None) -> bytes:
    """Return a record that claims to be 2,000,000,000 offsets after the first of its batch, which a broker accepts."""
    plain = batch([b"one", b"two"], key=key)
    delta = bytearray()
    number = 2_000_000_000 << 1
    while number > 0x7F:
        delta.append(number & 0x7F | 0x80)
        number >>= 7
    delta.append(number)
    first = plain[HEADER + 1 : HEADER + 1 + plain[HEADER] // 2]  # attributes, time, offset, …
    record = first[:2] + bytes(delta) + first[3:]
    rest = plain[HEADER + 1 + len(first) :]
    return checked(plain[:HEADER] + bytes([len(record) << 1]) + record + rest)


DAMAGED: Final[dict[str, Callable[..., bytes]]] = {
    "zstd bomb": lambda: bomb("zstd"),
    "gzip bomb": lambda: bomb("gzip"),
    "many headers": many_headers,
    "two frames": two_frames,
    "wrong checksum inside": wrong_checksum_inside,
    "trailing bytes": trailing_bytes,
    "far offset": far_offset,
}
"""Batches that a real broker accepts, and that must not be decoded."""


class RawProducer:
    """Writes raw batches."""

    def __init__(self, client: AIOKafkaClient) -> None:
        self._client = client

    async def write(self, topic: str, partition: int, raw: bytes) -> int:
        """Write a batch; return its first offset."""
        await self._client._wait_on_metadata(topic)
        leader = self._client.cluster.leader_for_partition(TopicPartition(topic, partition))
        request = ProduceRequest(None, -1, 10_000, [(topic, [(partition, raw)])])
        answer: Any = await self._client.send(leader, request)
        ((_, ((_, code, offset, *_),)),) = answer.topics
        assert for_code(code) is NoError, for_code(code)
        return int(offset)


@asynccontextmanager
async def raw_producer(bootstrap: str) -> AsyncIterator[RawProducer]:
    """Connect a client that writes raw batches."""
    client = AIOKafkaClient(bootstrap_servers=bootstrap)
    await client.bootstrap()
    try:
        yield RawProducer(client)
    finally:
        await client.close()


def flip(data: Path, topic: str, partition: int, offset: int) -> None:
    """Change the last byte of a batch on a broker's disk, so that its checksum is wrong.

    Args:
        data: The broker's folder of logs.
        topic: The topic.
        partition: The partition.
        offset: The batch's first offset.
    """
    log = data / f"{topic}-{partition}" / f"{0:020}.log"
    raw = log.read_bytes()
    at = 0
    while True:
        base, length = struct.unpack_from(">qi", raw, at)
        end = at + 12 + length
        if base == offset:
            break
        at = end
    with log.open("r+b") as file:
        file.seek(end - 1)
        file.write(bytes([raw[end - 1] ^ 0xFF]))
