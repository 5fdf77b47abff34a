"""Unicode's compatibility form, which takes away what makes no difference to what is said, in linear time."""

from collections.abc import Iterator
from functools import lru_cache
from typing import Final
from unicodedata import combining, normalize

MAX_MARKS: Final = 30
"""Marks in a row (accents above and below a letter) that are kept; more are no writing, but sorting them by their kinds
takes quadratic time (UAX #15, section 13: Stream-Safe Text Format)."""


def nfkc(text: str) -> str:
    """A text in the form NFKC; of more than 30 marks in a row, the first 30."""
    return text if text.isascii() else normalize("NFKC", "".join(_stream_safe(text)))


def _stream_safe(text: str) -> Iterator[str]:
    marks = 0
    for char in text:
        length, leading, trailing = _marks_of(char)
        marks += leading
        if marks <= MAX_MARKS or leading < length:
            yield char
        if leading < length:
            marks = trailing


@lru_cache(4_096)
def _marks_of(char: str) -> tuple[int, int, int]:
    """How many characters one is made of, and how many of them are marks: before the first that is none, and behind."""
    parts = [bool(combining(part)) for part in normalize("NFKD", char)]
    bases = [place for place, mark in enumerate(parts) if not mark]
    return (len(parts), bases[0], len(parts) - 1 - bases[-1]) if bases else (len(parts), len(parts), 0)
