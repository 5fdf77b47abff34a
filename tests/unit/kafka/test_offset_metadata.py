"""Finished offsets in the metadata of a commit."""

from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise.kafka.offset_metadata import BITMAP, MAX_LENGTH, RUN_LENGTHS, decode, encode


def ranges(watermark: int, lengths: list[int]) -> list[range]:
    """Return ranges above a watermark, from alternating lengths of unfinished and finished offsets."""
    edges = [watermark]
    for length in lengths:
        edges.append(edges[-1] + length)
    return [range(*edge) for edge in list(pairwise(edges))[1::2]]


def offsets(found: list[range]) -> list[int]:
    return [offset for span in found for offset in span]


LENGTHS = st.lists(st.integers(1, 300), max_size=200)


@given(st.integers(0, 2**62), LENGTHS)
def test_metadata_is_decoded(watermark: int, lengths: list[int]) -> None:
    finished = ranges(watermark, lengths)
    text, whole = encode(watermark, finished)
    assert len(text.encode()) <= MAX_LENGTH
    assert whole
    assert decode(watermark, text) == finished


@given(st.integers(0, 2**32), st.sampled_from([1, 3, 40, 300]))
def test_the_highest_ranges_are_dropped_if_they_do_not_fit(seed: int, longest: int) -> None:
    drawn = Random(seed)
    finished = ranges(7, [drawn.randint(1, longest) for _ in range(drawn.randint(3_000, 30_000))])
    text, whole = encode(7, finished)
    assert len(text.encode()) <= MAX_LENGTH
    read, wanted = offsets(decode(7, text)), offsets(finished)
    assert read == wanted[: len(read)]
    assert whole == (len(read) == len(wanted))


def test_the_shorter_format_is_chosen() -> None:
    alternating, one_run = [range(n, n + 1) for n in range(1, 2_000, 2)], [range(1, 1_000_000)]
    assert encode(0, alternating)[0].startswith(BITMAP)
    assert encode(0, one_run)[0].startswith(RUN_LENGTHS)
    assert len(encode(0, alternating)[0]) < 400
    assert len(encode(0, one_run)[0]) < 10


def test_the_format_that_reaches_further_is_chosen_if_neither_holds_all() -> None:
    dense = [range(n, n + 1) for n in range(1, 100_000, 2)]
    sparse = [range(n, n + 1) for n in range(300, 3_000_000, 300)]
    assert encode(0, dense)[0].startswith(BITMAP)
    assert encode(0, sparse)[0].startswith(RUN_LENGTHS)


def test_no_finished_offsets_are_an_empty_text() -> None:
    assert encode(5, []) == ("", True)
    assert decode(5, "") == []


@pytest.mark.parametrize("text", ["x", "p1zAAAA", "p1rgA", "p1b*", "bAAAA", "somebody's own words"])
def test_foreign_metadata_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        decode(0, text)
