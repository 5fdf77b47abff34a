"""Epochs: encoding, the order by partition, and the lowest of several."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise.contracts.epoch import Epoch

TOPIC = "Jv3mJ-xGQ_2eBqRk0w7s1A"
reached = st.tuples(st.integers(0, 2**60), st.integers(0, 4_000_000_000_000).map(lambda ms: ms / 1000))
epochs = st.dictionaries(st.integers(0, 5), reached).map(lambda parts: Epoch(TOPIC, parts))


@given(epochs)
def test_encode_and_decode(epoch: Epoch) -> None:
    text = epoch.encode()
    assert Epoch.decode(text) == epoch
    assert hash(Epoch.decode(text)) == hash(epoch)
    assert text.isascii()
    assert not set(text) - set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "begins with e1"),
        ("e2.topic", "begins with e1"),
        ("e1", "topic id"),
        ("e1.a b", "topic id"),
        ("e1.topic.0~1", "partition~offset~milliseconds"),
        ("e1.topic.0~-1~2", "partition~offset~milliseconds"),
        ("e1.topic.", "partition~offset~milliseconds"),
        ("e1.topic.0~1~2.0~1~3", "each partition once"),
    ],
)
def test_an_invalid_epoch_is_rejected_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Epoch.decode(text)


def test_golden_text() -> None:
    assert Epoch("abc", {3: (17, 1700000000.25), 0: (4, 1.0)}).encode() == "e1.abc.0~4~1000.3~17~1700000000250"


@given(epochs, epochs)
def test_the_lowest_is_the_greatest_that_both_have_reached(one: Epoch, other: Epoch) -> None:
    lowest = Epoch.lowest([one, other])
    assert one.reached(lowest)
    assert other.reached(lowest)
    for partition in set(one.partitions) & set(other.partitions):
        assert lowest.partitions[partition] in (one.partitions[partition], other.partitions[partition])
    assert set(lowest.partitions) == set(one.partitions) & set(other.partitions)


@given(epochs)
def test_order_is_reflexive_and_the_lowest_of_one_is_itself(epoch: Epoch) -> None:
    assert epoch.reached(epoch)
    assert Epoch.lowest([epoch]) == epoch


@given(epochs, st.integers(0, 5), reached)
def test_an_offset_only_increases(epoch: Epoch, partition: int, at: tuple[int, float]) -> None:
    after = epoch.with_offset(partition, *at)
    assert after.reached(epoch)
    assert after.partitions[partition][0] == max(at[0], epoch.partitions.get(partition, (-1, 0))[0])


def test_the_epoch_of_a_recreated_topic_is_never_reached() -> None:
    assert not Epoch("new", {0: (9, 1.0)}).reached(Epoch("old", {0: (1, 1.0)}))
    with pytest.raises(ValueError, match="one topic"):
        Epoch.lowest([Epoch("new"), Epoch("old")])
    with pytest.raises(ValueError, match="one or more"):
        Epoch.lowest([])


def test_missing_names_the_partitions() -> None:
    assert Epoch("t", {0: (5, 1.0)}).missing(Epoch("t", {0: (5, 1.0), 1: (0, 1.0), 2: (3, 1.0)})) == [1, 2]
