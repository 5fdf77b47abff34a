"""Integers from outside: the one reader of every number that stands in a header, and the bound of all of them."""

from typing import Final

MAX_DIGITS: Final = 18
MAX_INTEGER: Final = 10**MAX_DIGITS - 1
"""The largest integer that a header or a body may hold: it fits 64 bits, and a float can hold it."""


def read_integer(text: str | bytes | None, most: int = MAX_INTEGER) -> int | None:
    """The whole number that a text holds, from 0 to `most`; None where it holds none, or there is no text.

    Python's own `int` takes signs, spaces, underscores and the digits of every script, and raises at 4,300 of them.
    """
    if text is None or len(text) > MAX_DIGITS or not (text.isascii() and text.isdigit()):
        return None
    number = int(text)
    return number if number <= most else None
