"""Records from a client library: invalid times, null headers, integers of any size."""

import time

import pytest
from aiokafka import ConsumerRecord
from hypothesis import given
from hypothesis import strategies as st

from poise.contracts.integers import MAX_INTEGER
from poise.kafka.record import MIN_TIMESTAMP, Record, write_time

NOW = 1_800_000_000.0


def raw(timestamp: int | None, headers: tuple[tuple[str, bytes | None], ...] = ()) -> ConsumerRecord[bytes, bytes]:
    return ConsumerRecord("t", 1, 2, timestamp, 0, b"k", b"v", None, 1, 1, headers)  # type: ignore[arg-type]


def test_a_null_header_stays_null_and_counts_as_absent() -> None:
    headers = (("reply_to", b"mine"), ("a", b"b"), ("reply_to", None))
    record = Record.of(raw(1_700_000_000_123, headers))
    assert record == Record("t", 1, 2, 1_700_000_000.123, b"k", b"v", headers)
    assert (record.header("reply_to"), record.header("a")) == (None, "b")


@pytest.mark.parametrize(
    ("log_time", "written"),
    [
        (1_799_999_999_000, 1_799_999_999.0),
        (MIN_TIMESTAMP, MIN_TIMESTAMP / 1_000),
        (1_799_999_999, NOW),  # seconds
        (0, NOW),
        (1_800_000_001_000, NOW),  # in the future
        (1_800_000_000_000_000, NOW),  # microseconds
        (MAX_INTEGER, NOW),
    ],
)
def test_an_invalid_record_time_becomes_the_time_of_reading(log_time: int, written: float) -> None:
    assert write_time(log_time, NOW) == written


@pytest.mark.parametrize("log_time", [None, -1, -(2**63), 0, 1_799_999_999, 2**63 - 1])
def test_the_identity_of_a_record_does_not_depend_on_when_it_is_read(log_time: int | None) -> None:
    """Check that all deliveries of one ask are the same run."""
    first, again = Record.of(raw(log_time)), Record.of(raw(log_time))
    assert first.identity == again.identity
    assert 0 <= first.log_time_ms <= MAX_INTEGER
    assert first.timestamp == pytest.approx(time.time(), abs=60)


@given(st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)))
def test_any_record_time_is_read(log_time: int | None) -> None:
    record = Record.of(raw(log_time))
    assert MIN_TIMESTAMP / 1_000 <= record.timestamp <= time.time()


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (b"0", 0),
        (b"9" * 18, MAX_INTEGER),
        (b"9" * 19, None),
        (b"9" * 5_000, None),
        (b"-1", None),
        (b"+1", None),
        (b" 1", None),
        (b"1_0", None),
        (b"", None),
        (b"\xff", None),
        ("\N{ARABIC-INDIC DIGIT ONE}".encode(), None),
        (None, None),
    ],
)
def test_an_integer_in_a_header_is_digits_and_bounded(value: bytes | None, number: int | None) -> None:
    assert Record.of(raw(1, (("n", b"7"), ("n", value)))).int_header("n") == number
