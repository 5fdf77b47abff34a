"""Responses of any bytes: what can be decoded is decoded, and each other batch becomes one record."""

import struct
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.codec import snappy_encode
from aiokafka.consumer import fetcher
from batch_kit import CODECS, DAMAGED, HEADER, Headers, batch, checked, packed
from hypothesis import given
from hypothesis import strategies as st

from poise.kafka.decompression import MAX_DECOMPRESSED_BYTES
from poise.kafka.patches.lenient_fetch import MAX_RECORDS, install
from poise.kafka.record import Record
from poise.kafka.record_batch import MAX_HEADERS

COMMITTED = 1
HEADERS: Headers = [("name", b"value"), ("null", None)]
GOOD = batch([b"one", b"", b"three"], key=b"key", headers=HEADERS, offset=100)
BEHIND = batch([b"behind"], offset=103)


def read(raw: bytes, *, start: int = 100, aborted: Sequence[tuple[int, int]] = ()) -> tuple[list[Record], int]:
    """Return the records of a fetch as a consumer decodes them, and the next offset."""
    install()
    reader: Any = fetcher
    batches = reader.MemoryRecords(raw)
    assert batches.size_in_bytes() == len(raw)
    if not batches.has_next():
        return [], start
    partition = TopicPartition("topic", 0)
    records = reader.PartitionRecords(partition, batches, aborted, start, None, None, True, COMMITTED)
    return [Record.of(record) for record in records], records.next_fetch_offset


def reasons(records: Sequence[Record]) -> list[str]:
    return [record.undecodable.reason for record in records if record.undecodable]


@pytest.mark.parametrize("codec", ["none", *CODECS])
def test_each_codec_is_decompressed(codec: str) -> None:
    raw = GOOD if codec == "none" else packed(GOOD, codec)
    records, after = read(raw + BEHIND)
    assert [(record.offset, record.key, record.value) for record in records] == [
        (100, b"key", b"one"),
        (101, b"key", b""),
        (102, b"key", b"three"),
        (103, None, b"behind"),
    ]
    assert records[0].headers == tuple(HEADERS)
    assert abs(records[0].timestamp - records[3].timestamp) < 3_600
    assert after == 104


def test_snappy_blocks_of_the_java_client_are_decompressed() -> None:
    plain = batch([b"x" * 100_000], offset=100)
    (record,), _ = read(packed(plain, "snappy", bytes(snappy_encode(plain[HEADER:]))))
    assert record.value == b"x" * 100_000


@pytest.mark.parametrize("codec", ["none", "zstd"])
def test_header_names_that_are_not_utf8_are_decoded(codec: str) -> None:
    plain = batch([b"one", b"two"], headers=[("nom", b"value")], offset=100).replace(b"nom", b"n\xf6m")
    raw = checked(plain) if codec == "none" else packed(plain, codec)
    records, _ = read(raw)
    assert [record.headers for record in records] == [(("n\ufffdm", b"value"),)] * 2


@pytest.mark.parametrize("codec", ["none", "lz4"])
def test_log_append_time_is_the_record_time(codec: str) -> None:
    appended = bytearray(GOOD)
    appended[22] |= 0x08
    appended[35:43] = struct.pack(">q", 1_234_000)
    raw = checked(bytes(appended))
    records, _ = read(raw if codec == "none" else packed(raw, codec))
    assert {record.log_time_ms for record in records} == {1_234_000}


@pytest.mark.parametrize("make", DAMAGED.values(), ids=DAMAGED.keys())
def test_batches_that_a_broker_accepts_are_decoded(make: Any) -> None:
    raw = struct.pack(">q", 100) + make()[8:]
    records, after = read(raw + batch([b"behind"], offset=1_000))
    assert len(reasons(records)) == 1
    assert (records[0].undecodable and records[0].undecodable.first_offset, records[0].value) == (100, raw)
    assert (records[-1].value, after) == (b"behind", 1_001)


@pytest.mark.parametrize("codec", [5, 6, 7])
def test_unknown_codec_is_undecodable(codec: int) -> None:
    raw = bytearray(GOOD)
    raw[22] |= codec
    (record, _), after = read(checked(bytes(raw)) + BEHIND)
    assert reasons([record]) == [f"Kafka has no codec {codec}"]
    assert (record.offset, after) == (102, 104)


def test_decompression_is_bounded() -> None:
    fits = packed(batch([bytes(MAX_DECOMPRESSED_BYTES - 100)], offset=100), "zstd")
    more = packed(batch([bytes(MAX_DECOMPRESSED_BYTES)], offset=101), "zstd")
    full = packed(batch([b""], headers=[("", b"")] * MAX_HEADERS, offset=102), "gzip")
    over = packed(batch([b""], headers=[("", b"")] * (MAX_HEADERS + 1), offset=103), "gzip")
    many = checked(GOOD[:57] + struct.pack(">i", MAX_RECORDS + 1) + GOOD[HEADER:])
    records, _ = read(fits + more + full + over)
    assert [bool(record.undecodable) for record in records] == [False, True, False, True]
    assert f"the limit is {MAX_RECORDS}" in reasons(read(many)[0])[0]


@pytest.mark.parametrize(
    "form", [lambda plain: plain, lambda plain: packed(plain, "zstd")], ids=["plain", "compressed"]
)
def test_headers_are_bounded(form: Callable[[bytes], bytes]) -> None:
    """Check the limits: 12 kB of zstd expanded to 17 million headers, which blocked a worker for over a minute."""
    header = [("", None)]
    for records, allowed in ((20, 10_000), (500, 50_000), (2_500, 200_000)):
        full = form(batch([b""] * records, headers=header * (allowed // records), offset=100))
        over = form(batch([b""] * records, headers=header * (allowed // records + 1), offset=100))
        assert reasons(read(full)[0]) == []
        assert reasons(read(over)[0]) == ["more headers than a batch with this number of records may have"]
    more = form(batch([b""], headers=header * (MAX_HEADERS + 1), offset=100))
    assert reasons(read(more)[0]) == [f"a record of {MAX_HEADERS + 1} headers; the limit is {MAX_HEADERS}"]


# -- damaged batches --------------------------------------------------------------------------------------------------


def damaged(raw: bytes, at: int = -1, to: int = 0xFF) -> bytes:
    changed = bytearray(raw)
    changed[at] ^= to
    return bytes(changed)


def test_wrong_checksum_is_undecodable() -> None:
    (record, behind), after = read(damaged(GOOD) + BEHIND)
    assert reasons([record]) == ["its checksum is not that of its bytes"]
    assert (record.offset, record.value, behind.value, after) == (102, damaged(GOOD), b"behind", 104)


def test_the_header_of_the_last_batch_is_trusted_if_it_is_consistent() -> None:
    assert [(record.offset, after) for records, after in [read(damaged(GOOD))] for record in records] == [(102, 103)]


@pytest.mark.parametrize("field", [26, 60], ids=["last offset", "number of records"])
def test_after_an_inconsistent_header_the_next_offset_is_fetched(field: int) -> None:
    raw = damaged(GOOD, field, 0x10)
    (record,), after = read(raw)
    assert (record.offset, after) == (100, 101)
    assert read(raw, start=101) == ([], 102), "returned again by the broker, it is the same batch"
    records, after = read(raw + BEHIND)
    assert ([record.offset for record in records], after) == ([102, 103], 104)


def test_wrong_length_is_undecodable() -> None:
    (record,), after = read(GOOD[:50])
    assert (reasons([record]), record.offset, after) == (["its length is wrong"], 100, 101)
    assert [record.value for record in read(BEHIND + GOOD[:50], start=103)[0]] == [b"behind"], "cut off by the fetch"


def transaction(*, marker: bool = False, producer: int = 7) -> bytes:
    value = struct.pack(">HH", 0, 0)
    raw = bytearray(batch([b"" if marker else b"aborted"], key=value, offset=101 if marker else 100))
    raw[22] |= 0x30 if marker else 0x10
    raw[43:51] = struct.pack(">q", producer)
    return checked(bytes(raw))


LATER = struct.pack(">q", 102) + transaction()[8:]
"""From the same producer, and committed."""


def test_aborted_transactions_and_their_markers_are_skipped() -> None:
    records, after = read(transaction() + transaction(marker=True) + LATER, aborted=[(7, 100)])
    assert ([record.offset for record in records], after) == ([102], 103)


def test_a_damaged_marker_is_undecodable_and_hides_no_committed_messages() -> None:
    marker = damaged(transaction(marker=True))
    records, after = read(transaction() + marker + LATER, aborted=[(7, 100)])
    assert ([record.offset for record in records], after) == ([101, 102], 103)
    assert (records[0].value, reasons(records)) == (marker, ["its checksum is not that of its bytes"])


@pytest.mark.parametrize("bits", [0x10, 0x20, 0x30])
def test_messages_that_look_aborted_or_like_a_marker_because_of_damage_are_undecodable(bits: int) -> None:
    plain = bytearray(transaction())
    plain[22] &= ~0x10
    raw = damaged(checked(bytes(plain)), 22, bits)
    records, after = read(raw + BEHIND, aborted=[(7, 90)])
    assert ([record.value for record in records], after) == ([raw, b"behind"], 104)
    assert reasons(records) == ["its checksum is not that of its bytes"]


@given(
    changes=st.lists(st.tuples(st.integers(8, len(GOOD) - 1), st.integers(1, 255)), min_size=1, max_size=4),
    codec=st.sampled_from(["none", "none", "zstd", "lz4", "gzip", "snappy"]),
)
def test_no_changed_byte_affects_more_than_its_batch(changes: list[tuple[int, int]], codec: str) -> None:
    raw = bytearray(GOOD)
    for at, by in changes:
        raw[HEADER + at % (len(GOOD) - HEADER) if codec != "none" else at] ^= by
    changed = bytes(raw) if codec == "none" else packed(bytes(raw), codec)
    records, after = read(changed + BEHIND)
    assert len(reasons(records)) <= 1
    if int.from_bytes(raw[8:12]) == len(GOOD) - 12:  # else the next fetch returns the batch behind it
        assert (records[-1].value, after) == (b"behind", 104)
    assert after > 100
