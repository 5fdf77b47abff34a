import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise.contracts.ask import LANGUAGE_TAG, Ask
from poise_services.gateway.languages import preferred_language


@pytest.mark.parametrize(
    ("header", "language"),
    [
        (None, None),
        ("", None),
        ("de", "de"),
        ("da, en-GB;q=0.8, en;q=0.7", "da"),  # RFC 9110's own example
        ("en;q=0.7, de-AT;q=0.9, fr;q=0.9", "de-AT"),
        ("en ; q=0.5 ,de ;Q=0.6", "de"),
        ("*", None),
        ("*, de;q=0.1", "de"),
        ("de;q=0", None),
        ("de;q=0.000, en;q=0.001", "en"),
        ("de;q=2, en;q=0.1", "en"),
        ("de;q=0.1234, en;q=0.1", "en"),
        ("de_AT, en", "en"),
        ("x" * 36 + ", en", "en"),
        (",,;q=1,\x00", None),
    ],
)
def test_the_most_preferred_language_is_used(header: str | None, language: str | None) -> None:
    assert preferred_language(header) == language


@given(st.text(alphabet="ade-*,;q=.01 \t\x00é", max_size=60))
def test_any_header_gives_a_valid_language_or_none(header: str) -> None:
    language = preferred_language(header)
    assert language is None or re.fullmatch(LANGUAGE_TAG, language)
    assert Ask(question="Why?", language=language).language == language
