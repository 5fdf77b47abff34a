import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise.cli.text import clean, format_duration, format_ms, plural


@given(st.text())
def test_clean_removes_control_characters(text: str) -> None:
    cleaned = clean(text)
    assert not any(unicodedata.category(char) in {"Cc", "Cs"} and char not in "\t\n" for char in cleaned)
    assert clean(cleaned) == cleaned


def test_clean_preserves_ordinary_text() -> None:
    assert clean("naïve — \t“日本”\n🙂") == "naïve — \t“日本”\n🙂"


def test_clean_disarms_escape_sequences() -> None:
    assert clean("\x1b[31mred\x1b[0m \u202eback\u202c") == "[31mred[0m back"


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0.04, "0.0 ms"),
        (3.14, "3.1 ms"),
        (240.4, "240 ms"),
        (1_240.0, "1.24 s"),
        (61_000.0, "61 s"),
        (125_000.0, "2 min 5 s"),
    ],
)
def test_format_ms_rounds_by_magnitude(ms: float, text: str) -> None:
    assert format_ms(ms) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (90, "2 min"), (7_200, "2 h"), (14 * 86_400, "14 d")])
def test_format_duration_uses_the_largest_units(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(("number", "text"), [(0, "0 files"), (1, "1 file"), (1_200, "1\u202f200 files")])
def test_plural_adds_an_s_except_for_one(number: int, text: str) -> None:
    assert plural(number, "file") == text
