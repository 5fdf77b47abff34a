"""The size of text as JSON, and truncation to such a size. Pure.

The number of characters does not determine it: a character takes one to four bytes, or six if it must be escaped.
"""

from typing import Final

from pydantic_core import to_json

MAX_BYTES_PER_CHARACTER: Final = 6
"""The longest encoding: `\\u0000`."""
_QUOTES: Final = 2


def json_size(text: str) -> int:
    """Return the bytes of a text as JSON, without the quotes."""
    return len(to_json(text)) - _QUOTES


def truncate_to_json_size(text: str, room: int) -> str:
    """Return the longest prefix of a text that takes at most `room` bytes as JSON."""
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
