"""Sizes of text as JSON: how many bytes it takes there, and how much of it fits. Pure.

Characters say little: one takes one to four bytes, and six where it has to be escaped.
"""

from typing import Final

from pydantic_core import to_json

MAX_BYTES_PER_CHARACTER: Final = 6
"""Bytes: `\\u0000`."""
_QUOTES: Final = 2


def json_size(text: str) -> int:
    """The bytes of a text as JSON, its quotes not counted."""
    return len(to_json(text)) - _QUOTES


def truncate_to_json_size(text: str, room: int) -> str:
    """The longest beginning of a text that takes at most so many bytes as JSON."""
    if len(text) * MAX_BYTES_PER_CHARACTER <= room:
        return text
    fits, too_long = 0, min(len(text), max(0, room)) + 1
    while too_long - fits > 1:
        half = (fits + too_long) // 2
        if json_size(text[:half]) <= room:
            fits = half
        else:
            too_long = half
    return text[:fits]
