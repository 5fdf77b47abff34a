"""Unicode normalization to the compatibility form NFKC, in linear time."""

from collections.abc import Iterator
from functools import lru_cache
from typing import Final
from unicodedata import combining, normalize

MAX_MARKS: Final = 30
"""Maximum of consecutive marks (accents above and below a letter). No writing system has more, and sorting them takes
quadratic time (UAX #15, section 13: Stream-Safe Text Format)."""


def nfkc(text: str) -> str:
    """Return a text in the form NFKC; of more than 30 consecutive marks, only the first 30."""
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
    """Return the length of a character's decomposition, and the numbers of its leading and trailing marks."""
    parts = [bool(combining(part)) for part in normalize("NFKD", char)]
    bases = [index for index, mark in enumerate(parts) if not mark]
    return (len(parts), bases[0], len(parts) - 1 - bases[-1]) if bases else (len(parts), len(parts), 0)
