"""NFKC of a text: unchanged, except that runs of combining marks are limited."""

from unicodedata import normalize

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise.text.unicode_forms import MAX_MARKS, nfkc


@given(st.text(max_size=25))
def test_nfkc_equals_the_standard_form(text: str) -> None:
    assert nfkc(text) == normalize("NFKC", text)


@pytest.mark.parametrize("marks", ["\u0301", "\u0301\u0316", "\uff9e\u0334"])
def test_nfkc_limits_combining_marks_and_preserves_letters(marks: str) -> None:
    text = "a" + marks * (MAX_MARKS // len(marks)) + marks * 50 + "ﬁ" + marks + "b"
    kept = "a" + marks * (MAX_MARKS // len(marks)) + "ﬁ" + marks + "b"
    assert nfkc(text) == normalize("NFKC", kept)
