"""Token buckets: a burst at once, the rate in the long run, one client not at the cost of the others."""

from hypothesis import given
from hypothesis import strategies as st

from poise.resilience.token_bucket import MAX_KEYS, KeyedTokenBuckets, TokenBucket


def test_a_burst_and_then_the_rate() -> None:
    bucket = TokenBucket(rate=2, burst=3)
    assert [bucket.take(10.0) for _ in range(5)] == [0, 0, 0, 0.5, 0.5]
    assert bucket.take(10.5) == 0
    assert bucket.take(10.5) == 0.5
    assert [bucket.take(1_000.0) for _ in range(4)] == [0, 0, 0, 0.5], "no more than the burst is saved up"


@given(st.lists(st.floats(0, 100), max_size=200))
def test_never_more_than_burst_and_rate_together(times: list[float]) -> None:
    bucket = TokenBucket(rate=1, burst=5)
    taken = [now for now in sorted(times) if bucket.take(now) == 0]
    for start in taken:
        assert sum(start <= now <= start + 10 for now in taken) <= 15 + 1


def test_one_key_does_not_use_up_what_the_others_have() -> None:
    buckets = KeyedTokenBuckets(each=(1, 3), together=(1, 5))
    assert [buckets.take("a", 0.0) for _ in range(4)] == [0, 0, 0, 1]
    assert [buckets.take("b", 0.0) for _ in range(3)] == [0, 0, 1]
    assert buckets.take("b", 1.0) == 0, "what it was refused for the sake of all was not taken from its own"


def test_what_is_remembered_of_keys_is_bounded() -> None:
    buckets = KeyedTokenBuckets(each=(0.001, 1), together=(1e9, 1e9))
    assert buckets.take("first", 0.0) == 0
    assert buckets.take("first", 0.0) > 0
    for number in range(MAX_KEYS):
        buckets.take(number, 0.0)
    assert len(buckets._buckets) == MAX_KEYS
    assert buckets.take("first", 0.0) == 0
