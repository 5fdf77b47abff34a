"""Token buckets: a burst, a long-run rate, and isolation of keys."""

from hypothesis import given
from hypothesis import strategies as st

from poise.resilience.token_bucket import MAX_KEYS, KeyedTokenBuckets, TokenBucket


def test_a_burst_and_then_the_rate() -> None:
    bucket = TokenBucket(rate=2, burst=3)
    assert [bucket.take_or_delay(10.0) for _ in range(5)] == [0, 0, 0, 0.5, 0.5]
    assert bucket.take_or_delay(10.5) == 0
    assert bucket.take_or_delay(10.5) == 0.5
    assert [bucket.take_or_delay(1_000.0) for _ in range(4)] == [0, 0, 0, 0.5], "the bucket holds at most the burst"


@given(st.lists(st.floats(0, 100), max_size=200))
def test_never_more_than_burst_and_rate_allow(times: list[float]) -> None:
    bucket = TokenBucket(rate=1, burst=5)
    taken = [now for now in sorted(times) if bucket.take_or_delay(now) == 0]
    for start in taken:
        assert sum(start <= now <= start + 10 for now in taken) <= 15 + 1


def test_one_key_does_not_use_the_tokens_of_others() -> None:
    buckets = KeyedTokenBuckets(each=(1, 3), together=(1, 5))
    assert [buckets.take_or_delay("a", 0.0) for _ in range(4)] == [0, 0, 0, 1]
    assert [buckets.take_or_delay("b", 0.0) for _ in range(3)] == [0, 0, 1]
    assert buckets.take_or_delay("b", 1.0) == 0, "a refusal by the shared bucket refunds the key's token"


def test_the_number_of_buckets_is_bounded() -> None:
    buckets = KeyedTokenBuckets(each=(0.001, 1), together=(1e9, 1e9))
    assert buckets.take_or_delay("first", 0.0) == 0
    assert buckets.take_or_delay("first", 0.0) > 0
    for number in range(MAX_KEYS):
        buckets.take_or_delay(number, 0.0)
    assert len(buckets._buckets) == MAX_KEYS
    assert buckets.take_or_delay("first", 0.0) == 0
