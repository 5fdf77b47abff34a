"""Parsing of Markdown's headings and code fences (CommonMark, sections 4.2 and 4.5). Pure, in linear time."""

import re
from typing import Final, NamedTuple

_ATX: Final = re.compile(r" {0,3}(#{1,6})[ \t]++(?=\S)")
_FENCE: Final = re.compile(r" {0,3}(`{3,}|~{3,})")


class Heading(NamedTuple):
    """A heading and its level, from 1."""

    level: int
    text: str


def parse_heading(line: str) -> Heading | None:
    """Return the ATX heading of a line, without the closing `#`; None if it is not a heading."""
    opening = _ATX.match(line)
    if opening is None:
        return None
    text = line[opening.end() :].rstrip()
    closed = text.rstrip("#")
    if closed.endswith((" ", "\t")):
        text = closed.rstrip(" \t")
    return Heading(len(opening[1]), text)


def open_fence(line: str, fence: str) -> str:
    """Return the fence that is open after a line; empty if none is.

    Args:
        line: The line.
        fence: The fence that was open before it.
    """
    mark = _FENCE.match(line)
    if mark is None:
        return fence
    if not fence:
        return mark[1]
    return "" if mark[1].startswith(fence) else fence
