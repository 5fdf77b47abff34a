"""A reply never exceeds the record limit of its topic, and says what was dropped."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise.contracts import Passage, Passages
from poise_services.retrieval.reply_size import MIN_SHORTENED_BYTES, fit_to_size


def found(*texts: str, reason: str | None = None) -> Passages:
    passages = tuple(
        Passage(id=f"d#{n}", source="A source", heading=f"Title {n}", text=text, score=1 / (n + 1), age=1.5, version=n)
        for n, text in enumerate(texts)
    )
    return Passages(passages=passages, epoch="e1.AAAA.0~1~1000", mode="hybrid", reason=reason)


def test_passages_that_fit_are_unchanged() -> None:
    small, just = found("a", "b"), found("x" * 5_000, "\x00" * 1_000)
    assert fit_to_size(small, 10_000) is small
    assert fit_to_size(just, len(just.encode())) is just


def test_the_first_passage_that_does_not_fit_is_shortened_and_the_rest_dropped() -> None:
    reply = fit_to_size(found("a" * 600_000, "b" * 600_000, "c" * 600_000), 1_000_000)
    assert [passage.text[:1] for passage in reply.passages] == ["a", "b"]
    assert len(reply.passages[0].text) == 600_000
    assert 390_000 < len(reply.passages[1].text) < 400_000
    assert reply.reason == "only 2 of 3 passages fit into the reply, the last of them shortened"
    assert 990_000 < len(reply.encode()) <= 1_000_000


def test_a_remainder_that_is_too_short_is_dropped() -> None:
    reply = fit_to_size(found("a" * 600, "b" * 600, reason="sparse search only"), 1_450)
    assert [passage.text[:1] for passage in reply.passages] == ["a"]
    assert reply.reason == "sparse search only; only 1 of 2 passages fit into the reply"


def test_if_nothing_fits_the_reply_is_empty_with_a_reason() -> None:
    reply = fit_to_size(found("a" * 600), 100)
    assert (reply.passages, reply.mode, reply.reason) == ((), "none", "only 0 of 1 passages fit into the reply")


@given(
    texts=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=3_000), max_size=12),
    room=st.integers(1_000, 20_000),
)
def test_a_reply_never_exceeds_its_limit(texts: list[str], room: int) -> None:
    whole = found(*texts)
    reply = fit_to_size(whole, room)
    assert len(reply.encode()) <= room
    assert all(a.id == b.id and b.text.startswith(a.text) for a, b in zip(reply.passages, whole.passages, strict=False))
    if reply.passages != whole.passages:
        assert f"only {len(reply.passages)} of {len(texts)} passages" in str(reply.reason)


@pytest.mark.parametrize("character", ["a", "é", "語", "😀", "\x00", '"', "\\"])
def test_the_limit_is_in_bytes_not_characters(character: str) -> None:
    reply = fit_to_size(found(character * 5_000, character * 5_000), 4 * MIN_SHORTENED_BYTES)
    assert len(reply.passages) == 1
    assert 3 * MIN_SHORTENED_BYTES < len(reply.encode()) <= 4 * MIN_SHORTENED_BYTES
