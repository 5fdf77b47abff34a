"""Sizes of text as JSON, with characters of one byte and of six bytes."""

from hypothesis import example, given
from hypothesis import strategies as st
from pydantic_core import to_json

from poise.contracts.json_size import json_size, truncate_to_json_size

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)


@given(text=TEXT)
@example(text='\x00"\\é😀\x1f')
def test_json_size_is_the_encoded_length_without_quotes(text: str) -> None:
    assert json_size(text) == len(to_json(text)[1:-1])


@given(text=TEXT, room=st.integers(-5, 2_000))
@example(text="x" * 100, room=100)
@example(text="\x00" * 100, room=599)
@example(text="😀" * 100, room=399)
def test_truncation_returns_the_longest_prefix_that_fits(text: str, room: int) -> None:
    kept = truncate_to_json_size(text, room)
    assert text.startswith(kept)
    assert json_size(kept) <= max(0, room)
    assert kept == text or json_size(text[: len(kept) + 1]) > room
