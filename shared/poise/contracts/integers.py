"""Parsing of the integers in headers, and their bound."""

from typing import Final

MAX_DIGITS: Final = 18
MAX_INTEGER: Final = 10**MAX_DIGITS - 1
"""The largest integer allowed in a header or a body; it fits 64 bits, and its magnitude fits a float."""


def read_integer(text: str | bytes | None, most: int = MAX_INTEGER) -> int | None:
    """Parse an integer from 0 to `most`; return None if the text is absent or not such an integer.

    `int` would accept signs, spaces, underscores and the digits of every script, and raises above 4,300 digits.
    """
    if text is None or len(text) > MAX_DIGITS or not (text.isascii() and text.isdigit()):
        return None
    number = int(text)
    return number if number <= most else None
