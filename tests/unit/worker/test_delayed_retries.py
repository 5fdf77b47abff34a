"""Records of a delayed-retry topic, with any headers."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise.contracts.headers import ATTEMPT, RETRY_COUNT, RETRY_DUE, RETRY_OF, RETRY_WRITTEN
from poise.contracts.run_id import derive_run_id
from poise.kafka.record import Headers, Position, Record
from poise.worker import delayed_retries
from poise.worker.delayed_retries import decode, due_at, publish

FIRST = Record(
    "poise.evaluation", 3, 42, time.time(), b"k", None, (("x", None), ("x", b"\xff")), log_time=1_700_000_000
)
values = st.one_of(st.none(), st.binary(max_size=30), st.integers(0, 6_000).map(lambda size: b"9" * size))


async def postponed(record: Record, delay: float = 10.0) -> Record:
    written: list[Record] = []

    async def send(
        topic: str, value: bytes | None, *, key: bytes | None, headers: Headers, partition: int | None = None
    ) -> Position:
        assert partition is None
        written.append(Record(topic, 0, 0, time.time(), key, value, tuple(headers)))
        return written[0].position

    await publish(send, "evaluation", record, delay=delay, attempts=4, count=1)
    return written[0]


async def test_delayed_message_is_restored_as_its_original_record() -> None:
    """Check that its log time is restored too, although invalid: the run id is derived from it."""
    again = decode(await postponed(FIRST))
    assert (again.attempts, again.count) == (4, 1)
    assert again.record.headers == FIRST.headers
    assert derive_run_id(*again.record.identity) == derive_run_id(*FIRST.identity)
    assert again.record.timestamp == pytest.approx(time.time(), abs=60)


@given(st.dictionaries(st.sampled_from([RETRY_OF, RETRY_WRITTEN, RETRY_DUE, RETRY_COUNT, ATTEMPT]), values))
def test_any_headers_are_decoded_or_rejected(headers: dict[str, bytes | None]) -> None:
    record = Record("poise.evaluation.retry.10s", 0, 0, 1_700_000_000.0, None, b"", tuple(headers.items()))
    assert 0 <= due_at(record) <= record.timestamp + 600
    try:
        decode(record)
    except ValueError:
        return
    assert set(headers) >= {RETRY_OF, RETRY_WRITTEN, RETRY_COUNT, ATTEMPT}


@pytest.mark.parametrize("of", [b"", b"t", b"t/1", b"t/1/-1", b"t/x/1", b"t/1/" + b"9" * 5_000])
async def test_invalid_original_position_is_rejected(of: bytes) -> None:
    record = await postponed(FIRST)
    headers = [(name, of if name == RETRY_OF else value) for name, value in record.headers]
    with pytest.raises(ValueError, match=RETRY_OF):
        decode(Record(record.topic, 0, 0, 1.0, None, b"", headers))


async def test_record_that_is_never_due_does_not_block_its_partition() -> None:
    dead_lettered: list[str] = []

    async def keep(record: Record, error: Exception) -> None:
        dead_lettered.append(f"{record.offset} {error}")

    record = Record("poise.evaluation.retry.10s", 0, 7, 1_700_000_000.0, None, b"", ((RETRY_DUE, b"9" * 18),))
    assert due_at(record) == 1_700_000_600
    await delayed_retries.DelayedRetryDispatcher({}, keep).dispatch(record)
    assert dead_lettered == [f"7 header {RETRY_OF} is not topic/partition/offset"]
